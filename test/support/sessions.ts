/** Sessions and heartbeats for tests: valid, distinct by number, and with nothing of chance in them. */
import type { StoredHeartbeat } from "../../drivers/store/telemetry.ts";
import type { Heartbeat } from "../../models/observation.ts";
import type { Peer, SessionState } from "../../models/session.ts";

/** A well-formed public key; not one that anybody has the private key of. */
export function keyOf(n: number): string {
  const bytes = Buffer.alloc(32, 7);
  bytes.writeUInt32BE(n, 0);
  return bytes.toString("base64");
}

export function peerOf(n: number): Peer {
  return { publicKey: keyOf(n), innerAddresses: [`10.66.${n >> 8}.${n & 255}`] };
}

export function sessionOf(n: number, endpoint: string, over: Partial<SessionState> = {}): SessionState {
  return {
    ...peerOf(n),
    endpoint,
    outerAddress: `198.18.1.1:${10_000 + n}`,
    lastHandshakeMs: 1_000_000,
    rxBytes: 10,
    txBytes: 20,
    version: 0,
    updatedAtMs: Date.now(),
    ...over,
  };
}

/** As the collector stores it: at the time it names, with its sessions as the one series. */
export function storedOf(
  heartbeat: Heartbeat,
  values: Readonly<Record<string, number>> = { sessions: heartbeat.sessions },
): StoredHeartbeat {
  return { heartbeat, atMs: heartbeat.atMs, receivedAtMs: heartbeat.atMs, values: new Map(Object.entries(values)) };
}

export function heartbeatOf(endpoint: string, sequence: number, over: Partial<Heartbeat> = {}): Heartbeat {
  return {
    swarm: "lab",
    endpoint,
    atMs: Date.now(),
    sequence,
    startedAtMs: 1_000,
    cpuShare: 0.25,
    cpuPressure: undefined,
    memoryShare: 0.5,
    tunnelUp: true,
    sessions: 3,
    rxBytes: 1,
    txBytes: 2,
    rxDrops: 0,
    txDrops: 0,
    ...over,
  };
}
