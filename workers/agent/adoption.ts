/**
 * What to do about a handshake that this endpoint began: repeat it while unanswered, and keep the client warm until its data comes.
 * Pure; the clock is given.
 */
import type { DevicePeer } from "../../drivers/tunnel/wireguard-device.ts";
import { LIMITS } from "../../models/limits.ts";
import type { SessionState } from "../../models/session.ts";

export interface Adoption {
  readonly session: SessionState;
  readonly begunAtMs: number;
  readonly attempts: number;
  readonly handshakeAtMs: number | undefined;
}

export interface AdoptionStep {
  readonly kind: "wait" | "repeat" | "settled" | "given-up";
  readonly next: Adoption;
}

/** WireGuard counts the handshake response (92 bytes); the smallest data packet that can follow it has 32. */
const RX_BYTES_WITH_DATA = 92 + 32;

/**
 * WireGuard repeats an initiation after 5 s; a take-over cannot wait that long for one lost packet, so the agent repeats it sooner,
 * with growing pauses so that a slow path's answer still meets the handshake it belongs to.
 */
export function adoptionStep(adoption: Adoption, held: DevicePeer | undefined, nowMs: number): AdoptionStep {
  const { begunAtMs, attempts, handshakeAtMs } = adoption;
  const { adoptRetryFirstMs, adoptRetriesMax, adoptGiveUpMs, adoptWarmMs } = LIMITS.agent;
  if (held !== undefined && held.lastHandshakeMs > 0) {
    const since = handshakeAtMs ?? nowMs;
    const settled = held.rxBytes >= RX_BYTES_WITH_DATA || nowMs - since >= adoptWarmMs;
    return { kind: settled ? "settled" : "wait", next: { ...adoption, handshakeAtMs: since } };
  }
  if (nowMs - begunAtMs >= adoptGiveUpMs) return { kind: "given-up", next: adoption };
  // Waits of 1, 2, 4 … times the first one: attempt n is due (2^n - 1) first waits after the beginning.
  const due = attempts <= adoptRetriesMax && nowMs >= begunAtMs + adoptRetryFirstMs * (2 ** attempts - 1);
  return due ? { kind: "repeat", next: { ...adoption, attempts: attempts + 1 } } : { kind: "wait", next: adoption };
}
