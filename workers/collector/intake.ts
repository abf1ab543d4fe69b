/**
 * Heartbeats at the door: an endpoint speaks for itself alone, says each thing once and in time, and no more often than it has something
 * to say. What is refused is counted by why, and costs nothing that grows.
 */
import type { FastifyRequest } from "fastify";
import { z } from "zod";
import { ForeshiftError } from "../../models/errors.ts";
import type { Identity } from "../../models/identity.ts";
import { LIMITS } from "../../models/limits.ts";
import { HEARTBEAT_LIMITS } from "../../models/limits-identity.ts";
import type { Heartbeat } from "../../models/observation.ts";
import { PlaceLabel } from "../../models/outside-events.ts";
import { parseInput } from "../../models/parse.ts";
import { EndpointName, SwarmName } from "../../models/steering.ts";
import { TelemetrySample } from "../../models/telemetry.ts";
import { nameOf, peerOf } from "../tls-gate.ts";
import type { RevokedEndpoints } from "./revoked-endpoints.ts";
import type { Telemetry } from "./telemetry.ts";

const HEARTBEAT_REFUSALS = ["foreign", "revoked", "replayed", "late", "oversized", "malformed", "flood"] as const;
export type HeartbeatRefusal = (typeof HEARTBEAT_REFUSALS)[number];

const count = z.number().int().nonnegative();
const share = z.number().min(0).max(1).optional();
const HeartbeatBody = z.strictObject({
  swarm: SwarmName,
  endpoint: EndpointName,
  atMs: count,
  sequence: count,
  startedAtMs: count,
  cpuShare: share,
  cpuPressure: share,
  memoryShare: share,
  tunnelUp: z.boolean(),
  sessions: count,
  rxBytes: count,
  txBytes: count,
  rxDrops: count,
  txDrops: count,
  sample: TelemetrySample.optional(),
  place: z.strictObject({ region: PlaceLabel.optional(), zone: PlaceLabel.optional() }).optional(),
  probeAddress: z.union([z.ipv4(), z.ipv6()]).optional(),
});

interface Bucket {
  tokens: number;
  atMs: number;
}

export class Intake {
  readonly #telemetry: Telemetry;
  readonly #revokedEndpoints: RevokedEndpoints;
  readonly #refused = new Map<HeartbeatRefusal, number>(HEARTBEAT_REFUSALS.map((kind) => [kind, 0]));
  /** By sender; those that have been heard the longest ago first. */
  readonly #buckets = new Map<string, Bucket>();

  constructor(telemetry: Telemetry, revoked: RevokedEndpoints) {
    this.#telemetry = telemetry;
    this.#revokedEndpoints = revoked;
  }

  get refused(): ReadonlyMap<HeartbeatRefusal, number> {
    return this.#refused;
  }

  /** Before a byte of the body is read. TOO_MANY from a sender that has had its share. */
  admit(request: FastifyRequest, nowMs: number): void {
    const peer = peerOf(request);
    if (peer === undefined || this.#hasShare(nameOf(peer), nowMs)) return;
    const { perSecondMax } = HEARTBEAT_LIMITS;
    throw this.#refusal(
      "flood",
      new ForeshiftError("TOO_MANY", { value: nameOf(peer), detail: `more than ${perSecondMax} heartbeats a second` }),
    );
  }

  /** What the server found wrong before it was a heartbeat. */
  unreadable(thrown: unknown): void {
    const code = typeof thrown === "object" && thrown !== null && "code" in thrown ? thrown.code : undefined;
    if (code === "FST_ERR_CTP_BODY_TOO_LARGE") this.#count("oversized");
    else if (!(thrown instanceof ForeshiftError)) this.#count("malformed");
  }

  /** The heartbeat, taken. NOT_YOURS, INVALID_FIELD or HEARTBEAT_REFUSED, each counted. */
  take(request: FastifyRequest, receivedAtMs: number): Pick<Heartbeat, "swarm" | "endpoint"> {
    const peer = peerOf(request);
    const { cpuShare, cpuPressure, memoryShare, ...rest } = this.#parse(request.body);
    const { swarm, endpoint } = rest;
    if (peer !== undefined && !isOf(peer, rest)) {
      const detail = `send heartbeats of ${endpoint} (${swarm})`;
      throw this.#refusal("foreign", new ForeshiftError("NOT_YOURS", { value: nameOf(peer), detail }));
    }
    if (this.#revokedEndpoints.has(rest)) {
      const detail = "its heartbeats are not heard";
      throw this.#refusal("revoked", new ForeshiftError("ENDPOINT_REVOKED", { value: endpoint, detail }));
    }
    const fault = this.#telemetry.take({ ...rest, cpuShare, cpuPressure, memoryShare }, receivedAtMs);
    if (fault === undefined) return rest;
    const detail = fault === "duplicate" ? "it was sent before" : "it is too old, or newer ones came before it";
    const kind = fault === "duplicate" ? "replayed" : "late";
    throw this.#refusal(kind, new ForeshiftError("HEARTBEAT_REFUSED", { value: endpoint, detail }));
  }

  #parse(body: unknown): z.infer<typeof HeartbeatBody> {
    try {
      return parseInput(HeartbeatBody, body, "body");
    } catch (thrown) {
      this.#count("malformed");
      throw thrown;
    }
  }

  #hasShare(sender: string, nowMs: number): boolean {
    const { perSecondMax, burstMax } = HEARTBEAT_LIMITS;
    const held = this.#buckets.get(sender) ?? { tokens: burstMax, atMs: nowMs };
    const refilled = held.tokens + (Math.max(0, nowMs - held.atMs) / 1_000) * perSecondMax;
    const tokens = Math.min(burstMax, refilled);
    this.#buckets.delete(sender);
    this.#buckets.set(sender, { tokens: Math.max(0, tokens - 1), atMs: nowMs });
    const oldest = this.#buckets.keys().next().value;
    if (this.#buckets.size > LIMITS.telemetry.endpointsMax && oldest !== undefined) this.#buckets.delete(oldest);
    return tokens >= 1;
  }

  #refusal(kind: HeartbeatRefusal, error: ForeshiftError): ForeshiftError {
    this.#count(kind);
    return error;
  }

  #count(kind: HeartbeatRefusal): void {
    this.#refused.set(kind, (this.#refused.get(kind) ?? 0) + 1);
  }
}

/** Whether that is the endpoint's own agent. */
export function isOf(peer: Identity, { swarm, endpoint }: { readonly swarm: string; readonly endpoint: string }): boolean {
  return peer.kind === "agent" && peer.swarm === swarm && peer.endpoint === endpoint;
}
