/**
 * What EC2 says of a swarm's machines. Whoever asks at the same time shares one paginated description of the whole swarm; nobody
 * describes a single machine. EC2's answers lag behind its changes, so whoever changes something waits here until it shows.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type EC2Client, type Filter, type Instance, paginateDescribeInstances } from "@aws-sdk/client-ec2";
import { ForeshiftError } from "../../../models/errors.ts";
import { CLOUD_LIMITS } from "../../../models/limits-cloud.ts";
import { asked } from "../../aws/calls.ts";
import { idOf } from "./machine.ts";
import { TAG, tagOf } from "./tags.ts";

export interface ViewOptions {
  readonly lookIntervalMs?: number | undefined;
  readonly pageSize?: number | undefined;
}

export interface Wait {
  /** For a person. */
  readonly what: string;
  readonly timeoutMs: number;
}

export class FleetView {
  readonly #client: EC2Client;
  readonly #lookIntervalMs: number;
  readonly #pageSize: number;
  /** By swarm; only those that began after the last change are shared. */
  readonly #flights = new Map<string, Promise<readonly Instance[]>>();
  readonly #swarms = new Map<string, string>();

  constructor(client: EC2Client, { lookIntervalMs, pageSize }: ViewOptions) {
    this.#client = client;
    this.#lookIntervalMs = lookIntervalMs ?? CLOUD_LIMITS.lookIntervalMs;
    this.#pageSize = pageSize ?? CLOUD_LIMITS.describePageSize;
  }

  /** All of the swarm's instances, for about an hour also those that have ended. */
  async instances(swarm: string): Promise<readonly Instance[]> {
    const shared = this.#flights.get(swarm);
    if (shared !== undefined) return await shared;
    const flight = this.#describe([{ Name: `tag:${TAG.swarm}`, Values: [swarm] }]).finally(() => {
      if (this.#flights.get(swarm) === flight) this.#flights.delete(swarm);
    });
    this.#flights.set(swarm, flight);
    return await flight;
  }

  /** What is under way may not show it yet. */
  changed(): void {
    this.#flights.clear();
  }

  /** UNKNOWN_ENDPOINT unless EC2 knows it as one of Foreshift's. */
  async swarmOf(name: string): Promise<string> {
    const known = this.#swarms.get(name);
    if (known !== undefined) return known;
    const [found] = await this.#describe([
      { Name: "instance-id", Values: [name] },
      { Name: "tag-key", Values: [TAG.swarm] },
    ]);
    const swarm = found === undefined ? undefined : tagOf(found, TAG.swarm);
    if (swarm === undefined) throw new ForeshiftError("UNKNOWN_ENDPOINT", { value: name });
    return swarm;
  }

  /** Looks until `found` answers something; NOT_READY with what was waited for when it takes too long. */
  async until<T>(swarm: string, found: (instances: readonly Instance[]) => T | undefined, wait: Wait): Promise<T> {
    return await this.wait(async () => found(await this.instances(swarm)), wait);
  }

  async wait<T>(look: () => Promise<T | undefined>, { what, timeoutMs }: Wait): Promise<T> {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const answer = await look();
      if (answer !== undefined) return answer;
      if (performance.now() > deadlineMs)
        throw new ForeshiftError("NOT_READY", { value: what, detail: `not within ${timeoutMs / 1_000} s` });
      await delay(this.#lookIntervalMs);
    }
  }

  async #describe(filters: Filter[]): Promise<readonly Instance[]> {
    return await asked("DescribeInstances", async () => {
      const all: Instance[] = [];
      const pages = paginateDescribeInstances({ client: this.#client, pageSize: this.#pageSize }, { Filters: filters });
      for await (const { Reservations = [] } of pages) {
        for (const { Instances = [] } of Reservations) all.push(...Instances);
      }
      for (const instance of all) this.#swarms.set(idOf(instance), tagOf(instance, TAG.swarm) ?? "");
      return all;
    });
  }
}
