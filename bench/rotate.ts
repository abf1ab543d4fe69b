/**
 * Rotations of every kind under traffic: what the clients felt, and how long each phase took. With faults, Vault fails in the midst of
 * each, in every way that it can; a rotation then ends right or is undone, and the next one finds everything in order.
 */
import { felt, quantile } from "../lab/measure.ts";
import { lastEventSeq, settledTraffic } from "../lab/trial.ts";
import { type VaultFaults, vaultFaults } from "../lab/vault-faults.ts";
import { KEY_KINDS, type KeyKind, type KeysRotated } from "../models/keys.ts";
import { LIMITS } from "../models/limits.ts";
import { type ClientRevocation, type EndpointRevocation, revokeEndpoints, revokeOneClient } from "./revocations.ts";
import { ROTATION_FAULTS, type RotationFault } from "./rotation-faults.ts";
import { type BenchLab, machine, withLab } from "./with-lab.ts";

export interface RotateOptions {
  readonly clients: number;
  readonly sessions: number;
  readonly pps: number;
  readonly kinds: readonly KeyKind[];
  /** Of each kind. */
  readonly rotations: number;
  /** Vault fails in the midst of one more rotation of each kind, once in each of these ways. */
  readonly faults: readonly RotationFault[];
  /** Of endpoints, one after the other, once the rotations are over. */
  readonly revocations: number;
  readonly onProgress: (text: string) => void;
}

export interface KindFigures {
  readonly rotations: number;
  readonly packetsSent: number;
  readonly packetsLost: number;
  readonly tcpBroken: number;
  /** What was rotated in all: clients, or data keys. */
  readonly rotated: number;
  /** Of these, clients that carried no traffic to shake hands with. */
  readonly idle: number;
  readonly tookMsP50: number | undefined;
  readonly tookMsMax: number | undefined;
  readonly ejections: number;
  /** Longest silence of any client in either direction. */
  readonly longestGapMs: number;
  /** Milliseconds in each phase, the middle one of all rotations. */
  readonly phaseMsP50: Readonly<Record<string, number>>;
}

export interface FaultFigures {
  readonly fault: RotationFault;
  readonly kind: KeyKind;
  /** From the rotation's beginning to the fault's, and how long that lasted. */
  readonly faultAfterMs: number;
  readonly faultMs: number;
  readonly outcome: KeysRotated["outcome"];
  /** What the rotation said of itself at its end. */
  readonly text: string;
  /** In it and in the one after it. */
  readonly packetsSent: number;
  readonly packetsLost: number;
  readonly tcpBroken: number;
  readonly ejections: number;
  readonly longestGapMs: number;
  readonly tookMs: number;
}

export interface RotateFigures {
  readonly machine: ReturnType<typeof machine>;
  readonly clients: number;
  readonly sessions: number;
  readonly pps: number;
  readonly rotations: number;
  readonly packetsLost: number;
  readonly tcpBroken: number;
  readonly byKind: Readonly<Record<string, KindFigures>>;
  readonly faults: readonly FaultFigures[];
  readonly revocation: ClientRevocation;
  readonly endpointRevocations: readonly EndpointRevocation[];
}

const ENDPOINTS = 3;
const GHOSTS = 1;
/** How long Vault fails: longer than every retry before a switch takes, or short enough that they outlast it, by turns. */
const FAULT_MS = [2_000, 20_000] as const;
/** Where in a rotation that begins, as shares of what the last undisturbed one of its kind took: by turns from its first step to its last. */
const FAULT_AT_SHARE = [0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9] as const;
const STOPPED_LOOK_MS = 100;

export async function benchRotate(options: RotateOptions): Promise<RotateFigures> {
  const { clients, onProgress, pps, sessions } = options;
  const faults = await vaultFaults();
  const size = { clients, sessions, endpoints: ENDPOINTS, ghosts: GHOSTS, packetsPerSecond: pps, vaultFaults: faults };
  try {
    return await withLab({ ...size, spec: { foresight: { mode: "off" } }, onProgress }, async (lab) => {
      const byKind: Record<string, KindFigures> = {};
      const seen: FaultFigures[] = [];
      for (const kind of options.kinds) {
        const figures = await rotations(lab, kind, options);
        byKind[kind] = figures;
        seen.push(...(await underFaults(lab, faults, kind, figures.tookMsP50 ?? 0, options)));
      }
      const endpointRevocations = await revokeEndpoints(lab, { endpoints: ENDPOINTS, ghosts: GHOSTS }, options.revocations);
      const all = [...Object.values(byKind), ...seen];
      const total = (value: (one: { packetsLost: number; tcpBroken: number }) => number) =>
        all.reduce((sum, one) => sum + value(one), 0);
      return {
        machine: machine(),
        clients,
        sessions,
        pps,
        rotations: Object.values(byKind).reduce((sum, one) => sum + one.rotations, 0) + seen.length,
        packetsLost: total(({ packetsLost }) => packetsLost),
        tcpBroken: total(({ tcpBroken }) => tcpBroken),
        byKind,
        faults: seen,
        endpointRevocations,
        revocation: await revokeOneClient(lab),
      };
    });
  } finally {
    await faults.close();
  }
}

interface Trial {
  readonly rotated: KeysRotated;
  /** Endpoints that the balancer put out meanwhile: on a machine that is too busy a loss of its own, and no rotation's. */
  readonly ejections: number;
  readonly tookMs: number;
  readonly cost: ReturnType<typeof felt>;
}

async function rotateOnce({ open }: BenchLab, kind: KeyKind, meanwhile: () => Promise<void>): Promise<Trial> {
  await open.lab.resetTraffic();
  const after = await lastEventSeq(open.balancer);
  const startedAtMs = performance.now();
  const { runId, workflowId } = await open.temporal.rotateKeys({
    swarm: open.swarm,
    kind,
    by: "bench",
    reason: "to measure it",
  });
  const [result] = await Promise.all([open.temporal.result(workflowId, runId), meanwhile()]);
  const tookMs = performance.now() - startedAtMs;
  const cost = felt(await settledTraffic(open.lab));
  const events = await open.balancer.events({ after, waitMs: 0 });
  const ejections = events.filter(({ kind: what }) => what === "ejected").length;
  return { rotated: result as KeysRotated, tookMs, cost, ejections };
}

async function rotations(lab: BenchLab, kind: KeyKind, options: RotateOptions): Promise<KindFigures> {
  const trials: Trial[] = [];
  for (let n = 1; n <= options.rotations; n += 1) {
    const trial = await rotateOnce(lab, kind, () => Promise.resolve());
    const { cost, rotated, tookMs } = trial;
    if (rotated.outcome !== "rotated") throw new Error(`rotation ${n} of ${kind} keys: ${rotated.text}`);
    trials.push(trial);
    options.onProgress(`${kind} ${n} of ${options.rotations}: ${Math.round(tookMs)} ms, ${cost.packetsLost} packets lost`);
  }
  const sum = (value: (trial: Trial) => number) => trials.reduce((total, trial) => total + value(trial), 0);
  const phases = new Set(trials.flatMap(({ rotated }) => Object.keys(rotated.phaseMs)));
  const middle = (phase: string) =>
    quantile(
      trials.map(({ rotated }) => rotated.phaseMs[phase] ?? 0),
      0.5,
    ) ?? 0;
  const took = trials.map(({ tookMs }) => tookMs);
  return {
    rotations: trials.length,
    packetsSent: sum(({ cost }) => cost.packetsSent),
    packetsLost: sum(({ cost }) => cost.packetsLost),
    tcpBroken: sum(({ cost }) => cost.tcpBroken),
    rotated: sum(({ rotated }) => rotated.done),
    idle: sum(({ rotated }) => rotated.idle),
    tookMsP50: quantile(took, 0.5),
    tookMsMax: quantile(took, 1),
    ejections: sum(({ ejections }) => ejections),
    longestGapMs: Math.max(0, ...trials.map(({ cost }) => cost.longestGapMs)),
    phaseMsP50: Object.fromEntries([...phases].map((phase) => [phase, middle(phase)])),
  };
}

/** After each the same kind is rotated with Vault in order: had anything been left half done, that would show here. */
async function underFaults(
  lab: BenchLab,
  faults: VaultFaults,
  kind: KeyKind,
  tookMs: number,
  options: RotateOptions,
): Promise<readonly FaultFigures[]> {
  const figures: FaultFigures[] = [];
  let undisturbedMs = tookMs;
  for (const [n, fault] of ROTATION_FAULTS.entries()) {
    if (!options.faults.includes(fault)) continue;
    const faultAfterMs = Math.round((FAULT_AT_SHARE[n % FAULT_AT_SHARE.length] ?? 0) * undisturbedMs);
    const faultMs = FAULT_MS[(n + KEY_KINDS.indexOf(kind)) % FAULT_MS.length] ?? 0;
    const trial = await rotateOnce(lab, kind, async () => {
      await pause(faultAfterMs);
      if (fault === "stopped") return await keepStopped(lab, faultMs);
      faults.inject(fault);
      await pause(faultMs);
      faults.heal();
    });
    const after = await rotateOnce(lab, kind, () => Promise.resolve());
    if (after.rotated.outcome !== "rotated") throw new Error(`after ${fault}: ${after.rotated.text}`);
    undisturbedMs = after.tookMs;
    const { outcome, text } = trial.rotated;
    const both = [trial.cost, after.cost];
    const sum = (value: (cost: Trial["cost"]) => number) => both.reduce((total, cost) => total + value(cost), 0);
    const packetsLost = sum((cost) => cost.packetsLost);
    figures.push({
      fault,
      kind,
      faultAfterMs,
      faultMs,
      outcome,
      text,
      packetsSent: sum((cost) => cost.packetsSent),
      packetsLost,
      tcpBroken: sum((cost) => cost.tcpBroken),
      ejections: trial.ejections + after.ejections,
      longestGapMs: Math.max(...both.map((cost) => cost.longestGapMs)),
      tookMs: trial.tookMs,
    });
    const when = `from ${faultAfterMs} ms on for ${faultMs} ms`;
    const took = `${outcome} after ${Math.round(trial.tookMs)} ms`;
    options.onProgress(`${kind} with Vault ${fault} ${when}: ${took}, ${packetsLost} packets lost. ${text}`);
  }
  return figures;
}

/** Returns once it serves again. */
async function keepStopped({ running }: BenchLab, forMs: number): Promise<void> {
  const vault = () => running.processes().find(({ name }) => name === "openbao");
  const untilMs = performance.now() + forMs;
  let killed: number | undefined;
  while (performance.now() < untilMs) {
    const pid = vault()?.pid;
    if (pid !== undefined && pid !== killed) process.kill(pid, "SIGKILL");
    killed = pid;
    await pause(STOPPED_LOOK_MS);
  }
  while (vault()?.ready !== true) await pause(STOPPED_LOOK_MS);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.min(ms, LIMITS.story.phaseTimeoutMs)));
}
