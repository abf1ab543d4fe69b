/**
 * The lab's own API, beside the hypervisor's: faults, traffic, and what the lab is made of. Served by `lab/daemon.ts`.
 */
import { NO_RETRY, RETRY_IDEMPOTENT, UnixHttpClient } from "../drivers/http-unix.ts";
import { LIMITS } from "../models/limits.ts";
import type { Peer } from "../models/session.ts";

const SUDDEN_KINDS = ["brownout", "crash", "freeze", "partition", "zombie", "heartbeat-loss"] as const;
/** Small at first; after a stated time the machine fails its users. */
export const BUILD_UP_KINDS = ["rising-loss", "cpu-steal", "memory-leak", "incident"] as const;
export const FAULT_KINDS = [...SUDDEN_KINDS, ...BUILD_UP_KINDS] as const;
export type SuddenKind = (typeof SUDDEN_KINDS)[number];
export type BuildUpKind = (typeof BUILD_UP_KINDS)[number];
export type FaultKind = (typeof FAULT_KINDS)[number];

export interface FaultRequest {
  readonly kind: FaultKind;
  readonly endpoint: string;
  /** Taken back after this long. */
  readonly seconds?: number | undefined;
  /** From the injection to the failure, of those that build up; LIMITS.lab.buildUpSecondsDefault unless stated. */
  readonly buildUpSeconds?: number | undefined;
}

export interface Fault {
  readonly kind: FaultKind;
  readonly endpoint: string;
  /** Unix milliseconds of the injection. */
  readonly atMs: number;
  /** Unix milliseconds from which on the machine fails its users, whatever they did before; of faults that build up. */
  readonly failsAtMs?: number;
}

/** One direction of a client's numbered packets since the last reset, as of `countedToMs`: neither lost nor received is left open. */
export interface PacketCounters {
  readonly sent: number;
  readonly received: number;
  readonly lost: number;
  readonly duplicated: number;
  readonly reordered: number;
  /** Longest time between two arrivals, and when it ended (Unix ms). */
  readonly longestGapMs: number;
  readonly longestGapEndedAtMs: number | undefined;
  /** The longest gaps, in no order. */
  readonly gaps?: readonly { readonly ms: number; readonly endedAtMs: number }[] | undefined;
}

export interface ClientTraffic {
  readonly client: string;
  readonly publicKey: string;
  readonly innerAddress: string;
  readonly up: PacketCounters;
  readonly down: PacketCounters;
  readonly tcp: { readonly broken: number; readonly longestStallMs: number; readonly bytes: number };
}

export interface LabTraffic {
  /** Unix ms of the last reset. */
  readonly sinceMs: number;
  /** Packets sent from the reset up to this moment (Unix ms) are counted; what was sent later may still be under way. */
  readonly countedToMs: number;
  readonly clients: readonly ClientTraffic[];
}

/** Sessions that join one after the other. */
export interface GrowthBegun {
  /** Unix milliseconds at which each of them begins, the first first. */
  readonly beginsAtMs: readonly number[];
}

export interface LabDescription {
  readonly vip: { readonly v4: string; readonly v6?: string; readonly port: number };
  readonly peers: readonly Peer[];
}

export class LabClient {
  readonly #http: UnixHttpClient;

  constructor(socketPath: string) {
    this.#http = new UnixHttpClient({ socketPath, name: "lab" });
  }

  describe(): Promise<LabDescription> {
    return this.#http.get("/v1/lab", read);
  }

  traffic(): Promise<LabTraffic> {
    return this.#http.get("/v1/traffic", read);
  }

  /** Counters start again from zero; packets sent before are not counted any more. */
  async resetTraffic(): Promise<void> {
    await this.#http.post("/v1/traffic/reset", { ...change, body: {} });
  }

  inject(kind: FaultKind, endpoint: string, options: Pick<FaultRequest, "buildUpSeconds"> = {}): Promise<Fault> {
    const body: FaultRequest = { kind, endpoint, ...options };
    return this.#http.post("/v1/faults", { ...change, body });
  }

  async heal(endpoint: string): Promise<void> {
    await this.#http.delete(`/v1/faults/${encodeURIComponent(endpoint)}`, change);
  }

  faults(): Promise<readonly Fault[]> {
    return this.#http.get("/v1/faults", read);
  }

  /** So many sessions more, evenly over the time, from a host of their own; they stay until `shrink`. */
  grow(request: { sessions: number; seconds: number }): Promise<GrowthBegun> {
    return this.#http.post("/v1/growth", { ...change, body: request });
  }

  /** The sessions that came by `grow` are gone, at once and everywhere. */
  async shrink(): Promise<void> {
    await this.#http.delete("/v1/growth", change);
  }

  /** The client changes its outer address and source port. */
  async roam(client: string): Promise<void> {
    await this.#http.post(`/v1/clients/${encodeURIComponent(client)}/roam`, { ...change, body: {} });
  }

  close(): Promise<void> {
    return this.#http.close();
  }
}

const read = { timeoutMs: LIMITS.http.requestTimeoutMs, retry: RETRY_IDEMPOTENT };
const change = { timeoutMs: LIMITS.lab.commandTimeoutMs, retry: NO_RETRY };
