/**
 * The configuration of an agent on an instance of EC2, put together from what is the same for all of its swarm (user data, which holds no
 * secret) and what the metadata service says of this one: its name, its swarm, where it is. It logs in to Vault as the instance it is.
 */
import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import type { InstanceMetadata } from "../../drivers/aws/instance-metadata.ts";
import { ForeshiftError } from "../../models/errors.ts";
import { parseInput } from "../../models/parse.ts";
import { SwarmName } from "../../models/steering.ts";
import { AWS_ROLE, awsMount, awsServerId, VaultMounts } from "../../models/vault-layout.ts";
import { AgentConfig } from "./config.ts";

const SWARM_TAG = "foreshift:swarm";
const TAG_REMEDY = `tag the instance ${SWARM_TAG} and let its metadata show tags; a launch by Foreshift does both`;

/** What an agent's configuration has beside what follows from the instance. */
const UserData = z.strictObject({
  ...AgentConfig.pick({
    device: true,
    listenPort: true,
    mtu: true,
    addresses: true,
    routes: true,
    implementation: true,
    reflexSocket: true,
    collectorSocket: true,
    keySecret: true,
  }).shape,
  /** Where others reach the agent, on the instance's private address. */
  agentPort: z.number().int().min(1).max(65_535),
  /** Address of the balancer's host, to which the way is measured. */
  balancer: z.ipv4().optional(),
  vault: z.strictObject({
    address: z.url({ protocol: /^https?$/ }),
    namespace: z.string().min(1).optional(),
    mounts: VaultMounts.prefault({}),
    /** PEM of the authorities of Vault's own certificate; without it those of the system. */
    authorities: z.string().refine(areCertificates, "expected certificates in PEM, and nothing else").optional(),
  }),
  /** Run by a shell before the agent begins: what the machine's links and addresses need. */
  prepare: z.string().default(""),
  stateDir: z.string().min(1).default("/run/foreshift"),
});

export interface InstanceStart {
  readonly config: z.input<typeof AgentConfig>;
  /** Files that the configuration names, all of them public. */
  readonly files: readonly { readonly path: string; readonly content: string }[];
  readonly script: string;
}

/** UNREACHABLE and NOT_READY may pass; INVALID_FIELD names what is wrong in the user data. */
export async function instanceStart(metadata: InstanceMetadata, metadataUrl: string): Promise<InstanceStart> {
  const data = userDataOf(await metadata.read("user-data", "the launch template has no user data"));
  const about = (path: string, remedy = "this is no instance of EC2") => metadata.read(`meta-data/${path}`, remedy);
  const [endpoint, address, region, zone] = await Promise.all(
    ["instance-id", "local-ipv4", "placement/region", "placement/availability-zone"].map((path) => about(path)),
  );
  const swarm = parseInput(SwarmName, await about(`tags/instance/${SWARM_TAG}`, TAG_REMEDY), `tag ${SWARM_TAG}`);
  const { agentPort, balancer, prepare, stateDir, vault, ...shared } = data;
  const { authorities, mounts, ...where } = vault;
  const caFile = join(stateDir, "vault-authorities.pem");
  const auth = { method: "aws", role: AWS_ROLE, mount: awsMount(mounts, swarm), serverId: awsServerId(swarm) } as const;
  const config = {
    ...shared,
    swarm,
    endpoint: endpoint ?? "",
    socketPath: `${address}:${agentPort}`,
    vault: {
      ...where,
      mounts,
      ...(authorities === undefined ? {} : { caFile }),
      auth: { ...auth, region: region ?? "", metadataUrl },
    },
    identity: { dir: join(stateDir, "identity") },
    stateDir,
    ownMachine: true,
    place: { region: region ?? "", zone: zone ?? "" },
    cloud: { kind: "ec2", metadataUrl },
    probes: { address: address ?? "", ...(balancer === undefined ? {} : { balancer }) },
  } satisfies z.input<typeof AgentConfig>;
  parseInput(AgentConfig, config, "configuration");
  return { config, files: authorities === undefined ? [] : [{ path: caFile, content: authorities }], script: prepare };
}

function userDataOf(text: string): z.infer<typeof UserData> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new ForeshiftError("INVALID_FIELD", { field: "user data", value: "it", detail: "it is not JSON" });
  }
  return parseInput(z.object({ "user data": UserData }), { "user data": json }, "user data")["user data"];
}

function areCertificates(pem: string): boolean {
  const blocks = pem.match(/-----BEGIN [^-]+-----[^-]*-----END [^-]+-----/g) ?? [];
  if (blocks.length === 0 || pem.replace(/-----BEGIN [^-]+-----[^-]*-----END [^-]+-----/g, "").trim() !== "") return false;
  try {
    return blocks.every((block) => new X509Certificate(block).subject !== "");
  } catch {
    return false;
  }
}
