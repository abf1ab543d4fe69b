/**
 * Rotations of every kind under traffic: what the clients felt, and how long each phase took. With faults, Vault fails in the midst of
 * each, in every way that it can; a rotation then ends right or is undone, and the next one finds everything in order.
 */
import { felt, quantile } from "../lab/measure.ts";
import { settledTraffic } from "../lab/trial.ts";
import { VAULT_FAULTS, type VaultFault, type VaultFaults, vaultFaults } from "../lab/vault-faults.ts";
import type { KeyKind, KeysRotated } from "../models/keys.ts";
import { LIMITS } from "../models/limits.ts";
import { type BenchLab, machine, withLab } from "./with-lab.ts";

export interface RotateOptions {
  readonly clients: number;
  readonly sessions: number;
  readonly pps: number;
  readonly kinds: readonly KeyKind[];
  /** Of each kind. */
  readonly rotations: number;
  /** Vault fails in the midst of one more rotation of each kind, once for each way. */
  readonly faults: boolean;
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
  /** Longest silence of any client in either direction. */
  readonly longestGapMs: number;
  /** Milliseconds in each phase, the middle one of all rotations. */
  readonly phaseMsP50: Readonly<Record<string, number>>;
}

export interface FaultFigures {
  /** `stopped`: the server itself was ended, again and again while the fault lasted, and started anew by the supervisor. */
  readonly fault: VaultFault | "stopped";
  readonly kind: KeyKind;
  readonly outcome: KeysRotated["outcome"];
  readonly packetsLost: number;
  readonly tcpBroken: number;
  readonly tookMs: number;
}

/** One client, at the end. */
export interface RevocationFigures {
  /** From the order until no session of it was left, on the slowest endpoint; undefined: one could not be asked. */
  readonly outMsMax: number | undefined;
  readonly endpoints: number;
  /** Packets of it that came through after that. */
  readonly packetsAfter: number;
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
  readonly revocation: RevocationFigures;
}

const ENDPOINTS = 3;
const GHOSTS = 1;
/** How long a revoked client is listened for. */
const LISTEN_MS = 5_000;
/** How long Vault fails: longer than every retry before a switch takes, or short enough that they outlast it, by turns. */
const FAULT_MS = [2_000, 20_000] as const;
const STOPPED_LOOK_MS = 100;
/** From the beginning of a rotation to the fault, spread over its phases. */
const FAULT_AFTER_MS = [0, 400, 800, 1_200, 1_600, 2_000, 2_400] as const;

export async function benchRotate(options: RotateOptions): Promise<RotateFigures> {
  const { clients, onProgress, pps, sessions } = options;
  const faults = await vaultFaults();
  const size = { clients, sessions, endpoints: ENDPOINTS, ghosts: GHOSTS, packetsPerSecond: pps, vaultFaults: faults };
  try {
    return await withLab({ ...size, spec: { foresight: { mode: "off" } }, onProgress }, async (lab) => {
      const byKind: Record<string, KindFigures> = {};
      for (const kind of options.kinds) byKind[kind] = await rotations(lab, kind, options);
      const seen = options.faults ? await underFaults(lab, faults, options) : [];
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
        revocation: await revokeOne(lab),
      };
    });
  } finally {
    await faults.close();
  }
}

interface Trial {
  readonly rotated: KeysRotated;
  readonly tookMs: number;
  readonly cost: ReturnType<typeof felt>;
}

async function rotateOnce({ open }: BenchLab, kind: KeyKind, meanwhile: () => Promise<void>): Promise<Trial> {
  await open.lab.resetTraffic();
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
  return { rotated: result as KeysRotated, tookMs, cost };
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
    longestGapMs: Math.max(0, ...trials.map(({ cost }) => cost.longestGapMs)),
    phaseMsP50: Object.fromEntries([...phases].map((phase) => [phase, middle(phase)])),
  };
}

/** After each the same kind is rotated with Vault in order: had anything been left half done, that would show here. */
async function underFaults(lab: BenchLab, faults: VaultFaults, options: RotateOptions): Promise<readonly FaultFigures[]> {
  const figures: FaultFigures[] = [];
  for (const kind of options.kinds) {
    for (const [n, fault] of [...VAULT_FAULTS, "stopped" as const].entries()) {
      const meanwhile = async () => {
        await pause(FAULT_AFTER_MS[n % FAULT_AFTER_MS.length] ?? 0);
        const forMs = FAULT_MS[n % FAULT_MS.length] ?? 0;
        if (fault === "stopped") return await keepStopped(lab, forMs);
        faults.inject(fault);
        await pause(forMs);
        faults.heal();
      };
      const { cost, rotated, tookMs } = await rotateOnce(lab, kind, meanwhile);
      const after = await rotateOnce(lab, kind, () => Promise.resolve());
      if (after.rotated.outcome !== "rotated") throw new Error(`after ${fault}: ${after.rotated.text}`);
      const { outcome } = rotated;
      const packetsLost = cost.packetsLost + after.cost.packetsLost;
      const tcpBroken = cost.tcpBroken + after.cost.tcpBroken;
      figures.push({ fault, kind, outcome, packetsLost, tcpBroken, tookMs });
      options.onProgress(`${kind} with Vault ${fault}: ${outcome} after ${Math.round(tookMs)} ms, ${packetsLost} packets lost`);
    }
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

async function revokeOne({ open }: BenchLab): Promise<RevocationFigures> {
  const [client] = (await open.lab.describe()).peers;
  const publicKey = client?.publicKey ?? "";
  const request = { swarm: open.swarm, clients: [publicKey], by: "bench", reason: "to measure it" };
  const { endpoints } = await open.temporal.revokeClients(request);
  const times = endpoints.flatMap(({ outAfterMs }) => outAfterMs ?? []);
  await open.lab.resetTraffic();
  await pause(LISTEN_MS);
  const { clients } = await settledTraffic(open.lab);
  const packetsAfter = clients.find((one) => one.publicKey === publicKey)?.up.received ?? 0;
  const isWhole = times.length === endpoints.length;
  return { outMsMax: isWhole ? Math.max(...times) : undefined, endpoints: endpoints.length, packetsAfter };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.min(ms, LIMITS.story.phaseTimeoutMs)));
}
