/**
 * Probes the members: through the tunnel every interval, and outside it. A probe is missed when no answer came in time; the moment is
 * judged only after everything that has arrived was read, so that a busy prober does not take its own delay for an endpoint's.
 */
import { connect } from "node:net";
import { TunnelProbe } from "../../drivers/tunnel/wireguard-probe.ts";
import type { KeyPair } from "../../drivers/tunnel/wireguard-probe-crypto.ts";
import { LIMITS } from "../../models/limits.ts";
import type { MemberLink, OutlierPolicy, ProbeStats } from "../../models/steering.ts";
import { ProbeWindow } from "./probe-window.ts";

export interface ProberTarget {
  readonly endpoint: string;
  readonly link: MemberLink;
  readonly port: number;
  readonly swarmPublicKey: string;
  readonly policy: OutlierPolicy;
  readonly echo: { readonly address: string; readonly port: number };
}

export interface ProbeListener {
  answered(endpoint: string): void;
  /** Once for each probe that was missed in silence: nothing was heard since it was sent. */
  missed(endpoint: string, refused: boolean): void;
}

export class MemberProber {
  target: ProberTarget;
  readonly #listener: ProbeListener;
  readonly #probe: TunnelProbe;
  readonly #inner = new ProbeWindow();
  readonly #outer = new ProbeWindow();
  /** Probes without an answer yet, and the moment at which each counts as missed. */
  readonly #outstanding = new Map<number, NodeJS.Timeout>();
  #timer: NodeJS.Timeout | undefined;
  #outerTimer: NodeJS.Timeout | undefined;
  #seq = 0;
  #nextAt: number;
  #closed = false;

  constructor(target: ProberTarget, own: KeyPair, listener: ProbeListener) {
    this.target = target;
    this.#listener = listener;
    const { link, port, swarmPublicKey, echo, endpoint } = target;
    this.#probe = new TunnelProbe(
      {
        address: link.probeAddress,
        port,
        publicKey: Buffer.from(swarmPublicKey, "base64"),
        innerAddress: link.probeInnerAddress,
        echo,
      },
      own,
      {
        answered: (seq, rttMs) => this.#answered(seq, rttMs),
        refused: () => this.#refused(),
      },
    );
    // Members are probed at different moments, so that the prober's work is spread.
    const offset = (spread(endpoint) % 1000) / 1000;
    this.#nextAt = performance.now() + offset * target.policy.probeIntervalMs;
    this.#timer = setTimeout(() => this.#tick(), this.#nextAt - performance.now());
    this.#outerTimer = setTimeout(() => this.#probeOuter(), offset * LIMITS.reflex.outerProbeIntervalMs);
  }

  inner(nowMs: number): ProbeStats {
    return this.#inner.stats(nowMs);
  }

  outer(nowMs: number): ProbeStats {
    return this.#outer.stats(nowMs);
  }

  /** False when the new target needs a new prober; a changed policy does not. */
  retarget(target: ProberTarget): boolean {
    const { policy } = target;
    if (JSON.stringify(target) !== JSON.stringify({ ...this.target, policy })) return false;
    this.target = target;
    return true;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#outerTimer);
    for (const timer of this.#outstanding.values()) clearTimeout(timer);
    this.#probe.close();
  }

  #tick(): void {
    if (this.#closed) return;
    this.#seq += 1;
    const seq = this.#seq;
    this.#inner.sent(seq, Date.now());
    this.#await(seq, true);
    this.#probe.send(seq);
    this.#schedule();
  }

  /** A prober that was itself held up takes its delay for the machine's, and gives the answer its time once more. */
  #await(seq: number, mayWaitAgain: boolean): void {
    const { probeTimeoutMs } = this.target.policy;
    const dueAt = performance.now() + probeTimeoutMs;
    const judge = () => {
      const heldUp = performance.now() - dueAt > LIMITS.reflex.proberLateMs;
      if (heldUp && mayWaitAgain && this.#outstanding.has(seq) && !this.#closed) this.#await(seq, false);
      else this.#miss(seq, false);
    };
    this.#outstanding.set(
      seq,
      setTimeout(() => setImmediate(judge), probeTimeoutMs),
    );
  }

  /** After a miss the next probes come a little faster: what is lost of the time to find out is won back. */
  #schedule(): void {
    const { probeIntervalMs, probeTimeoutMs } = this.target.policy;
    const hurried = Math.max(probeTimeoutMs, probeIntervalMs * LIMITS.reflex.probeHurryShare);
    const silent = this.#inner.missesInARow;
    const pace = silent > 0 && silent < this.target.policy.missesToEject ? Math.min(hurried, probeIntervalMs) : probeIntervalMs;
    const now = performance.now();
    // A prober that was held up goes on from now and does not send a burst.
    this.#nextAt = Math.max(this.#nextAt + pace, now + pace / 2);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#tick(), this.#nextAt - now);
  }

  #answered(seq: number, rttMs: number): void {
    clearTimeout(this.#outstanding.get(seq));
    this.#outstanding.delete(seq);
    this.#inner.answered(seq, rttMs, Date.now());
    this.#listener.answered(this.target.endpoint);
  }

  #miss(seq: number, refused: boolean): void {
    const timer = this.#outstanding.get(seq);
    if (timer === undefined || this.#closed) return;
    clearTimeout(timer);
    this.#outstanding.delete(seq);
    this.#probe.missed();
    if (!this.#inner.missed(seq)) return;
    if (this.#inner.missesInARow === 1) this.#hurry();
    this.#listener.missed(this.target.endpoint, refused);
  }

  #hurry(): void {
    const { probeIntervalMs } = this.target.policy;
    this.#nextAt -= probeIntervalMs * (1 - LIMITS.reflex.probeHurryShare);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#tick(), Math.max(0, this.#nextAt - performance.now()));
  }

  #refused(): void {
    const outstanding = Array.from(this.#outstanding.keys());
    for (const seq of outstanding) this.#miss(seq, true);
  }

  /** A connection to a port where nobody listens: the refusal is the answer. */
  #probeOuter(): void {
    if (this.#closed) return;
    this.#outerTimer = setTimeout(() => this.#probeOuter(), LIMITS.reflex.outerProbeIntervalMs);
    const sentAt = performance.now();
    const seq = this.#outer.next(Date.now());
    const socket = connect({ host: this.target.link.probeAddress, port: LIMITS.reflex.outerProbePort });
    const end = (answers: boolean) => {
      socket.destroy();
      if (this.#closed) return;
      if (answers) this.#outer.answered(seq, performance.now() - sentAt, Date.now());
      else this.#outer.missed(seq);
    };
    socket.setTimeout(LIMITS.reflex.outerProbeTimeoutMs, () => end(false));
    socket.once("connect", () => end(true));
    socket.on("error", (error: NodeJS.ErrnoException) => end(error.code === "ECONNREFUSED"));
  }
}

function spread(text: string): number {
  let sum = 0;
  for (const char of text) sum = (Math.imul(sum, 31) + (char.codePointAt(0) ?? 0)) >>> 0;
  return Math.imul(sum, 0x9e3779b1) >>> 0;
}
