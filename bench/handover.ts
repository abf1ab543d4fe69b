/**
 * What a move costs the clients: planned moves by drain-and-replace, crashes taken over by the reflex, and the same crash with stock
 * behaviour (steered to a twin, but left to the client to find out), all in one run on one lab.
 */

import type { FaultKind } from "../lab/lab-client.ts";
import { felt, longestGapWithin, quantile } from "../lab/measure.ts";
import type { SpecOverrides } from "../lab/spec.ts";
import {
  awaitGone,
  awaitWhole,
  busiestEndpoint,
  type LossTrial,
  lastEventSeq,
  loseEndpoint,
  sessionsOf,
  settledTraffic,
} from "../lab/trial.ts";
import { LIMITS } from "../models/limits.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { explainLoss } from "./explain.ts";
import { type BenchLab, machine, withLab } from "./with-lab.ts";

export interface HandoverOptions {
  /** Planned moves of one session each, at least. */
  readonly moves: number;
  readonly clients: number;
  readonly sessions: number;
  readonly pps: number;
  /** With one endpoint it holds every session, and a move moves them all. */
  readonly endpoints: number;
  readonly trials: number;
  readonly stockTrials: number;
  readonly onProgress: (text: string) => void;
}

export interface PlannedFigures {
  readonly moves: number;
  readonly drains: number;
  readonly packetsSent: number;
  readonly packetsLost: number;
  readonly packetsDuplicated: number;
  readonly tcpBroken: number;
  /** Longest silence of each moved client from the moment its endpoint takes no new sessions until it has let go of the old ones. */
  readonly gapMsP50: number | undefined;
  readonly gapMsP99: number | undefined;
  /** Over the whole run, in which machines boot, wake and end on the same cores: of the moved clients, and of those that were not. */
  readonly wholeRunGapMsP99: number | undefined;
  readonly unmovedGapMsP99: number | undefined;
  /** From the request to the end of the old machine. */
  readonly drainMsP50: number | undefined;
  readonly drainMsMax: number | undefined;
}

export interface LossFigures {
  readonly trials: number;
  readonly detectMsP50: number | undefined;
  readonly detectMsP99: number | undefined;
  readonly recoverMsP50: number | undefined;
  readonly recoverMsP99: number | undefined;
  readonly packetsLostP50: number | undefined;
  readonly tcpBroken: number;
}

export interface HandoverFigures {
  readonly machine: ReturnType<typeof machine>;
  readonly clients: number;
  readonly sessions: number;
  readonly pps: number;
  readonly planned: PlannedFigures;
  readonly crash: LossFigures;
  readonly freeze: LossFigures;
  readonly zombie: LossFigures;
  readonly stock: { readonly trials: number; readonly recoverMsP50: number | undefined };
}

const GHOSTS = 1;
/** The bench asks for one disruption after another, which a budget for a fleet would rightly refuse; so would growing ejections. */
const BUDGET = { disruptedShareMaxPercent: 34, windowShareMaxPercent: 100, windowMs: 1_000, freezeUnhealthyPercent: 70 };

export async function benchHandover(options: HandoverOptions): Promise<HandoverFigures> {
  const { clients, sessions, pps, endpoints, onProgress } = options;
  const size = { clients, sessions, endpoints, ghosts: GHOSTS, packetsPerSecond: pps };
  const spec: SpecOverrides = {
    budget: BUDGET,
    thresholds: { coolDownMs: 0 },
    outlier: { ejectionBaseMs: 1_000, ejectionLongestMs: 2_000 },
    // Whoever moves sessions here is the bench.
    foresight: { mode: "off" },
  };
  return await withLab({ ...size, spec, onProgress }, async (lab) => {
    const planned = await plannedMoves(lab, options);
    const crash = await losses(lab, "crash", options);
    const freeze = await losses(lab, "freeze", options);
    const zombie = await losses(lab, "zombie", options);
    const stock = await stockLosses(lab, options);
    const { trials, recoverMsP50 } = stock;
    return { machine: machine(), clients, sessions, pps, planned, crash, freeze, zombie, stock: { trials, recoverMsP50 } };
  });
}

async function plannedMoves({ open }: BenchLab, options: HandoverOptions): Promise<PlannedFigures> {
  const sums = { moves: 0, drains: 0, packetsSent: 0, packetsLost: 0, packetsDuplicated: 0, tcpBroken: 0 };
  const gaps: number[] = [];
  const wholeGaps: number[] = [];
  const unmovedGaps: number[] = [];
  const drains: number[] = [];
  while (sums.moves < options.moves) {
    await awaitWhole(open, { count: options.endpoints, ghosts: GHOSTS });
    const endpoint = await busiestEndpoint(open.balancer);
    const moved = new Set((await sessionsOf(open.balancer, endpoint)).map(({ publicKey }) => publicKey));
    const auditSeq = (await open.store.auditTrail({ swarm: open.swarm, limit: 1 })).at(-1)?.seq ?? 0;
    const since = { startedAtMs: Date.now(), eventSeq: await lastEventSeq(open.balancer), auditSeq };
    await open.lab.resetTraffic();
    const startedAtMs = performance.now();
    await open.temporal.replaceEndpoint({ swarm: open.swarm, endpoint, by: "bench" });
    await awaitGone(open, endpoint);
    drains.push(performance.now() - startedAtMs);
    const traffic = await settledTraffic(open.lab);
    const span = await moveSpan(open, since.auditSeq);
    const cost = felt(traffic);
    sums.moves += moved.size;
    sums.drains += 1;
    sums.packetsSent += cost.packetsSent;
    sums.packetsLost += cost.packetsLost;
    sums.packetsDuplicated += cost.packetsDuplicated;
    sums.tcpBroken += cost.tcpBroken;
    for (const client of traffic.clients) {
      const whole = Math.max(client.up.longestGapMs, client.down.longestGapMs);
      if (!moved.has(client.publicKey)) unmovedGaps.push(whole);
      else {
        wholeGaps.push(whole);
        gaps.push(longestGapWithin(client, span.fromMs, span.toMs));
      }
    }
    if (cost.packetsLost > 0) (await explainLoss(open, traffic, since)).forEach(options.onProgress);
    options.onProgress(`${sums.moves} of ${options.moves} moves, ${sums.packetsLost} packets lost`);
  }
  return {
    ...sums,
    gapMsP50: quantile(gaps, 0.5),
    gapMsP99: quantile(gaps, 0.99),
    wholeRunGapMsP99: quantile(wholeGaps, 0.99),
    unmovedGapMsP99: quantile(unmovedGaps, 0.99),
    drainMsP50: quantile(drains, 0.5),
    drainMsMax: quantile(drains, 1),
  };
}

/** When the sessions were moved, as the audit trail has it. */
async function moveSpan(open: BenchLab["open"], afterSeq: number): Promise<{ fromMs: number; toMs: number }> {
  const rows = await open.store.auditTrail({ swarm: open.swarm, afterSeq, limit: LIMITS.story.newsRowsMax });
  const at = (action: string) => rows.filter((row) => row.action === action).map(({ atMs }) => atMs);
  return { fromMs: Math.min(...at("drain")), toMs: Math.max(...at("unpin sessions")) };
}

async function losses({ open }: BenchLab, kind: FaultKind, options: HandoverOptions): Promise<LossFigures> {
  const { trials, onProgress } = options;
  const seen: LossTrial[] = [];
  for (let trial = 1; trial <= trials; trial += 1) {
    await awaitWhole(open, { count: options.endpoints, ghosts: GHOSTS });
    const endpoint = await busiestEndpoint(open.balancer);
    const result = await loseEndpoint(open, kind, endpoint);
    seen.push(result);
    onProgress(
      `${kind} ${trial} of ${trials}: detected ${Math.round(result.detectMs)} ms, recovered ${Math.round(result.recoverMs)} ms`,
    );
    if (kind === "zombie") await open.lab.heal(endpoint).catch(() => undefined);
  }
  const of = (value: (trial: LossTrial) => number, share: number) => quantile(seen.map(value), share);
  return {
    trials,
    detectMsP50: of(({ detectMs }) => detectMs, 0.5),
    detectMsP99: of(({ detectMs }) => detectMs, 0.99),
    recoverMsP50: of(({ recoverMs }) => recoverMs, 0.5),
    recoverMsP99: of(({ recoverMs }) => recoverMs, 0.99),
    packetsLostP50: of(({ packetsLost }) => packetsLost, 0.5),
    tcpBroken: seen.reduce((total, { tcpBroken }) => total + tcpBroken, 0),
  };
}

/** Nobody starts handshakes but the clients: neither the reflex nor the workflow that repairs the endpoint. */
async function stockLosses(lab: BenchLab, options: HandoverOptions): Promise<LossFigures> {
  const trials = options.stockTrials;
  const seen: LossFigures[] = [];
  await setTakeover(lab, false);
  for (let trial = 1; trial <= trials; trial += 1) seen.push(await losses(lab, "crash", { ...options, trials: 1 }));
  await setTakeover(lab, true);
  const middle = (value: (figures: LossFigures) => number | undefined) =>
    quantile(
      seen.flatMap((figures) => value(figures) ?? []),
      0.5,
    );
  return {
    trials,
    detectMsP50: middle(({ detectMsP50 }) => detectMsP50),
    detectMsP99: undefined,
    recoverMsP50: middle(({ recoverMsP50 }) => recoverMsP50),
    recoverMsP99: undefined,
    packetsLostP50: middle(({ packetsLostP50 }) => packetsLostP50),
    tcpBroken: seen.reduce((total, { tcpBroken }) => total + tcpBroken, 0),
  };
}

async function setTakeover({ open, running }: BenchLab, takeover: boolean): Promise<void> {
  const spec: SwarmSpec = { ...running.spec, outlier: { ...running.spec.outlier, takeover } };
  await open.temporal.applySwarm({ spec, by: "bench" });
  await open.awaitOutlier((outlier) => outlier.takeover === takeover);
}
