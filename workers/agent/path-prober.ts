/**
 * Round trip, jitter and loss from here to the balancer and to a few other endpoints, outside the tunnel: a connection to a port where
 * nobody listens, whose refusal is the answer. The first is measured every second, and of the others one in turn: two small packets each
 * way a second, however many there are.
 */
import { connect } from "node:net";
import { LIMITS } from "../../models/limits.ts";

/** Who is measured, by the label that the path has in models/telemetry.ts. */
export interface PathTarget {
  readonly label: string;
  readonly address: string;
  /** Own address to ask from; undefined leaves it to the routes. */
  readonly from?: string | undefined;
}

interface Path {
  target: PathTarget;
  /** Of the last probes: whether they were answered. */
  readonly outcomes: boolean[];
  answeredEver: boolean;
  rttMs: number | undefined;
  /** Mean difference of successive round trips, smoothed as in RFC 3550, 6.4.1. */
  jitterMs: number | undefined;
}

const JITTER_GAIN = 1 / 16;

export class PathProber {
  readonly #paths = new Map<string, Path>();
  readonly #timer: NodeJS.Timeout;
  #turn = 0;

  constructor() {
    this.#timer = setInterval(() => this.#probeNext(), LIMITS.paths.probeIntervalMs);
  }

  /** What is measured from now on, the first the most often; paths that stay keep what is known of them. */
  measure(targets: readonly PathTarget[]): void {
    const wanted = new Set(targets.map(({ label }) => label));
    for (const label of this.#paths.keys()) if (!wanted.has(label)) this.#paths.delete(label);
    for (const target of targets) {
      const path = this.#paths.get(target.label);
      if (path !== undefined && path.target.address === target.address && path.target.from === target.from) continue;
      this.#paths.set(target.label, newPath(target));
    }
  }

  /** A path that never answered may be one that answers nobody: nothing is said of it. */
  gauges(): Readonly<Record<string, number>> {
    const gauges: Record<string, number> = {};
    for (const [label, { answeredEver, rttMs, jitterMs, outcomes }] of this.#paths) {
      if (!answeredEver || outcomes.length === 0) continue;
      gauges[`pathLossShare:${label}`] = outcomes.filter((answered) => !answered).length / outcomes.length;
      if (rttMs !== undefined) gauges[`pathRttMs:${label}`] = rttMs;
      if (jitterMs !== undefined) gauges[`pathJitterMs:${label}`] = jitterMs;
    }
    return gauges;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#paths.clear();
  }

  #probeNext(): void {
    const [first, ...others] = this.#paths.values();
    if (first !== undefined) this.#probe(first);
    this.#turn = (this.#turn + 1) % Math.max(1, others.length);
    const next = others[this.#turn];
    if (next !== undefined) this.#probe(next);
  }

  #probe(path: Path): void {
    const { address: host, from } = path.target;
    const sentAtMs = performance.now();
    const socket = connect({ host, port: LIMITS.paths.probePort, ...(from === undefined ? {} : { localAddress: from }) });
    let ended = false;
    const end = (answers: boolean) => {
      socket.destroy();
      if (!ended) note(path, answers ? performance.now() - sentAtMs : undefined);
      ended = true;
    };
    socket.unref();
    socket.setTimeout(LIMITS.paths.probeTimeoutMs, () => end(false));
    socket.once("connect", () => end(true));
    socket.on("error", (error: NodeJS.ErrnoException) => end(error.code === "ECONNREFUSED"));
  }
}

function newPath(target: PathTarget): Path {
  return { target, outcomes: [], answeredEver: false, rttMs: undefined, jitterMs: undefined };
}

function note(path: Path, rttMs: number | undefined): void {
  path.outcomes.push(rttMs !== undefined);
  if (path.outcomes.length > LIMITS.paths.probesKept) path.outcomes.shift();
  if (rttMs !== undefined && path.rttMs !== undefined)
    path.jitterMs = (path.jitterMs ?? 0) + (Math.abs(rttMs - path.rttMs) - (path.jitterMs ?? 0)) * JITTER_GAIN;
  path.answeredEver ||= rttMs !== undefined;
  // The last word of a path that is silent is no measurement of it.
  path.rttMs = rttMs;
}
