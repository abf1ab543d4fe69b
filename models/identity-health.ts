/**
 * Whether a process's identity will last: what is left of its certificate and of the revocation list that it holds, and how far clocks are
 * apart. Times are Unix milliseconds.
 */
import { IDENTITY_LIMITS } from "./limits-identity.ts";

export interface Finding {
  /** `missing`: connections are refused, or will be at any moment. `warning`: what renews it does not. */
  readonly state: "ok" | "warning" | "missing";
  /** One sentence for a person. */
  readonly text: string;
  readonly remedy?: string;
}

const WAIT_FOR_VAULT =
  "Look for certificate-not-renewed in the process's log: it says what Vault answered. Once Vault answers, it renews by itself.";

/** A certificate is replaced at two thirds of its life; one that is older has not been, for whatever reason. */
export function certificateFinding(held: { readonly issuedAtMs: number; readonly notAfterMs: number }, nowMs: number): Finding {
  const leftMs = held.notAfterMs - nowMs;
  const lifeMs = held.notAfterMs - held.issuedAtMs;
  if (leftMs <= 0) return { state: "missing", text: `its certificate ended ${duration(-leftMs)} ago`, remedy: WAIT_FOR_VAULT };
  const text = `its certificate lasts ${duration(leftMs)} more`;
  const graceMs = Math.max(IDENTITY_LIMITS.renewRetryLongestMs, lifeMs * LATE_SHARE);
  const dueAtMs = held.issuedAtMs + lifeMs * IDENTITY_LIMITS.renewAtShare;
  if (nowMs <= dueAtMs + graceMs) return { state: "ok", text };
  return { state: "warning", text: `${text} and was due for renewal ${duration(nowMs - dueAtMs)} ago`, remedy: WAIT_FOR_VAULT };
}

/** Of a certificate's life: so late a renewal is nobody's pause between two attempts any more. */
const LATE_SHARE = 0.05;

/** The collector has a list made anew at a third of its life; one that is past half of it has not reached this process. */
export function crlFinding(
  held: { readonly thisUpdateMs: number; readonly nextUpdateMs: number; readonly number: bigint } | undefined,
  nowMs: number,
): Finding {
  const remedy = "Look for crl-unreachable in its log, and whether collector and Vault run: `foreshift lab status`.";
  if (held === undefined) return { state: "missing", text: "it has no revocation list, and lets nobody in", remedy };
  const { nextUpdateMs, number, thisUpdateMs } = held;
  const named = `revocation list ${number} is ${duration(nowMs - thisUpdateMs)} old`;
  if (nowMs >= nextUpdateMs) {
    return { state: "missing", text: `${named} and has ended: new connections are refused`, remedy };
  }
  const isOld = nowMs - thisUpdateMs > (nextUpdateMs - thisUpdateMs) / 2;
  const text = `${named}, good for ${duration(nextUpdateMs - nowMs)} more`;
  return isOld ? { state: "warning", text, remedy } : { state: "ok", text };
}

/** `offsetMs`: how far this clock is ahead of the other's, give or take `doubtMs`. */
export function clockFinding(offsetMs: number, doubtMs: number): Finding {
  const distanceMs = Math.max(0, Math.abs(offsetMs) - doubtMs);
  const text = `this machine's clock is within ${duration(Math.abs(offsetMs) + doubtMs)} of Vault's`;
  if (distanceMs <= IDENTITY_LIMITS.clockOffsetMsMax) return { state: "ok", text };
  const ahead = offsetMs > 0 ? "ahead of" : "behind";
  const remedy =
    "Set the clocks by NTP (chrony, systemd-timesyncd): certificates begin and end by them, and WireGuard's handshakes too.";
  return { state: "warning", text: `this machine's clock is ${duration(distanceMs)} or more ${ahead} Vault's`, remedy };
}

/** In the largest unit that fits, rounded down. */
export function duration(ms: number): string {
  for (const [unit, size] of UNITS) if (ms >= size) return `${Math.floor(ms / size)} ${unit}`;
  return `${Math.max(0, Math.round(ms))} ms`;
}

const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
] as const;
