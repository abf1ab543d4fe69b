/**
 * How tunnel and agent are doing as the agent itself sees it: handshakes, restarts, how long WireGuard takes to answer, how late the
 * agent's own loop comes round.
 */
import type { SessionState } from "../../models/session.ts";

export class TunnelVitals {
  readonly #startedAtMs = performance.now();
  readonly #cpuAtStart = process.cpuUsage();
  readonly #handshakeOf = new Map<string, number>();
  #handshakes = 0;
  #restarts = 0;
  #upSinceMs: number | undefined;
  #wasUp = false;
  #answerMsMax = 0;
  #lateMsMax = 0;

  /** The agent's loop came round after it was due; less than nothing when something woke it before. */
  cameRound(afterDueMs: number): void {
    this.#lateMsMax = Math.max(this.#lateMsMax, afterDueMs);
  }

  /** WireGuard was asked for its state and answered after so long. */
  answered(tookMs: number): void {
    this.#answerMsMax = Math.max(this.#answerMsMax, tookMs);
  }

  /** The device is there, or is not. Coming back is a restart. */
  up(isUp: boolean): void {
    if (isUp && this.#upSinceMs === undefined) {
      if (this.#wasUp) this.#restarts += 1;
      this.#upSinceMs = performance.now();
      this.#wasUp = true;
    } else if (!isUp) this.#upSinceMs = undefined;
  }

  /** The device was started anew by the agent; seen or not, it was away. */
  restarted(): void {
    this.up(false);
  }

  counters(sessions: readonly SessionState[]): Readonly<Record<string, number>> {
    this.#countHandshakes(sessions);
    const { user, system } = process.cpuUsage(this.#cpuAtStart);
    return { handshakes: this.#handshakes, tunnelRestarts: this.#restarts, agentCpuS: (user + system) / 1e6 };
  }

  /** The largest are since the call before. */
  gauges(sessions: readonly SessionState[], nowMs: number): Readonly<Record<string, number>> {
    const agesS = sessions.map(({ lastHandshakeMs }) => Math.max(0, nowMs - lastHandshakeMs) / 1_000).toSorted((a, b) => a - b);
    const [median, oldest] = [agesS[Math.floor((agesS.length - 1) / 2)], agesS.at(-1)];
    const monotonicMs = performance.now();
    const gauges = {
      ...(median === undefined || oldest === undefined ? {} : { handshakeAgeSP50: median, handshakeAgeSMax: oldest }),
      ...(this.#upSinceMs === undefined ? {} : { tunnelUptimeS: (monotonicMs - this.#upSinceMs) / 1_000 }),
      deviceAnswerMsMax: this.#answerMsMax,
      agentLateMsMax: this.#lateMsMax,
      agentUptimeS: (monotonicMs - this.#startedAtMs) / 1_000,
      agentMemoryBytes: process.memoryUsage.rss(),
    };
    this.#answerMsMax = 0;
    this.#lateMsMax = 0;
    return gauges;
  }

  #countHandshakes(sessions: readonly SessionState[]): void {
    const live = new Set<string>();
    for (const { publicKey, lastHandshakeMs } of sessions) {
      live.add(publicKey);
      if (this.#handshakeOf.get(publicKey) !== lastHandshakeMs) this.#handshakes += 1;
      this.#handshakeOf.set(publicKey, lastHandshakeMs);
    }
    for (const publicKey of this.#handshakeOf.keys()) if (!live.has(publicKey)) this.#handshakeOf.delete(publicKey);
  }
}
