/**
 * One launch on EC2: the first instance type of the list that is to be had, in the zone with the fewest machines that has it.
 */
import { type EC2Client, type Instance, RunInstancesCommand, type RunInstancesCommandInput } from "@aws-sdk/client-ec2";
import { ForeshiftError, messageOf } from "../../../models/errors.ts";
import { CLOUD_LIMITS } from "../../../models/limits-cloud.ts";
import { asked, codeOf, isNoCapacity } from "../../aws/calls.ts";
import type { Ec2Config } from "./config.ts";
import { hasEnded, idOf } from "./machine.ts";
import { hashOf, launchTags } from "./tags.ts";

export interface LaunchRequest {
  readonly operation: string;
  readonly swarm: string;
  readonly suspended: boolean;
  /** An AMI; undefined: the launch template's. */
  readonly image?: string | undefined;
}

interface Candidate {
  readonly type: string;
  readonly subnet: string;
  readonly spot: boolean;
}

export class Launcher {
  readonly #client: EC2Client;
  readonly #config: Ec2Config;
  /** `type subnet market` -> when it had no capacity last, of performance.now(). */
  readonly #lacking = new Map<string, number>();

  constructor(client: EC2Client, config: Ec2Config) {
    this.#client = client;
    this.#config = config;
  }

  /**
   * The id of the instance. `generation` counts instances of this key that died before they had booted: each has its own token. A token
   * that EC2 holds another request for was used by somebody else for the same launch, so `lookForOther` is asked for theirs.
   * CLOUD_NO_CAPACITY when no candidate is to be had.
   */
  async run(
    request: LaunchRequest,
    known: readonly Instance[],
    generation: number,
    lookForOther: () => Promise<string | undefined>,
  ): Promise<string> {
    const refusals: string[] = [];
    for (const [tries, candidate] of this.#candidates(request, known).entries()) {
      const token = hashOf(`${request.operation}\n${generation}\n${tries}`);
      try {
        const { Instances: [instance] = [] } = await this.#client.send(
          new RunInstancesCommand(this.#input(request, candidate, token)),
        );
        if (instance === undefined)
          throw new ForeshiftError("CLOUD_FAILED", { value: "RunInstances", detail: "no instance came of it" });
        return idOf(instance);
      } catch (thrown) {
        const other = codeOf(thrown) === "IdempotentParameterMismatch" ? await lookForOther() : undefined;
        if (other !== undefined) return other;
        if (!isNoCapacity(thrown) && codeOf(thrown) !== "IdempotentParameterMismatch")
          return await asked("RunInstances", () => Promise.reject(thrown));
        this.#lacking.set(nameOf(candidate), performance.now());
        refusals.push(`${nameOf(candidate)} (${codeOf(thrown) || messageOf(thrown)})`);
      }
    }
    throw new ForeshiftError("CLOUD_NO_CAPACITY", { value: `a machine of ${request.swarm}`, detail: refusals.join(", ") });
  }

  /** By preference of type; of one type the emptiest zone first; what lacked capacity lately last. */
  #candidates({ suspended }: LaunchRequest, known: readonly Instance[]): readonly Candidate[] {
    const { instanceTypes, market } = this.#config;
    const living = known.filter((instance) => !hasEnded(instance));
    const count = (subnet: string) => living.filter(({ SubnetId }) => SubnetId === subnet).length;
    const subnets = this.#config.subnets.map(({ id }) => id).toSorted((a, b) => count(a) - count(b));
    const markets = market === "spot" && !suspended ? [true, false] : [false];
    const all = markets.flatMap((spot) => instanceTypes.flatMap((type) => subnets.map((subnet) => ({ type, subnet, spot }))));
    return all.toSorted((a, b) => Number(this.#lacks(a)) - Number(this.#lacks(b))).slice(0, CLOUD_LIMITS.launchTriesMax);
  }

  #lacks(candidate: Candidate): boolean {
    const atMs = this.#lacking.get(nameOf(candidate));
    return atMs !== undefined && performance.now() - atMs < CLOUD_LIMITS.noCapacityMemoryMs;
  }

  #input(request: LaunchRequest, { type, subnet, spot }: Candidate, token: string): RunInstancesCommandInput {
    const { launchTemplate, ghosts } = this.#config;
    const { image } = request;
    return {
      LaunchTemplate: { LaunchTemplateId: launchTemplate.id, Version: launchTemplate.version },
      ...(image === undefined ? {} : { ImageId: image }),
      InstanceType: type as NonNullable<RunInstancesCommandInput["InstanceType"]>,
      SubnetId: subnet,
      MinCount: 1,
      MaxCount: 1,
      ClientToken: token,
      // Whoever can make the machine fetch an address must not get its credentials: a session token first, and one hop only.
      MetadataOptions: { HttpTokens: "required", HttpPutResponseHopLimit: 1, InstanceMetadataTags: "enabled" },
      TagSpecifications: launchTags(request),
      ...(request.suspended && ghosts === "hibernate" ? { HibernationOptions: { Configured: true } } : {}),
      ...(spot ? { InstanceMarketOptions: { MarketType: "spot", SpotOptions: { SpotInstanceType: "one-time" } } } : {}),
    };
  }
}

function nameOf({ type, subnet, spot }: Candidate): string {
  return `${type} in ${subnet}${spot ? " as Spot" : ""}`;
}
