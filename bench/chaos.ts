/**
 * Kills anything at any point of a move. Each round replaces an endpoint while processes die by a schedule that follows from the
 * seed; afterwards the swarm must be whole, no step executed twice, no living session lost and nothing left over.
 */
import { RETRY_IDEMPOTENT, UnixHttpClient } from "../drivers/http-unix.ts";
import { dialer } from "../drivers/identity/dial.ts";
import { until } from "../lab/await.ts";
import { imageFor, type LabHypervisor } from "../lab/machine-image.ts";
import { quantile } from "../lab/measure.ts";
import { awaitAtRest } from "../lab/open-lab.ts";
import { LAB_SWARM, type LabSize, type SpecOverrides } from "../lab/spec.ts";
import { awaitGone, awaitWhole, busiestEndpoint } from "../lab/trial.ts";
import { predictionIdOf } from "../models/decision.ts";
import { LIMITS } from "../models/limits.ts";
import { seededRandom } from "../models/random.ts";
import { swarmWorkflowId } from "../models/swarm-messages.ts";
import { killByConfig } from "./kill.ts";
import { dealer } from "./random.ts";
import { type BenchLab, machine, withLab } from "./with-lab.ts";

export interface ChaosOptions {
  readonly hypervisor: LabHypervisor;
  readonly seed: number;
  readonly rounds: number;
  readonly onProgress: (text: string) => void;
}

export const VICTIMS = ["control", "collector", "postgres", "temporal", "reflex"] as const;
export type Victim = (typeof VICTIMS)[number];

export interface ChaosFigures {
  readonly machine: ReturnType<typeof machine>;
  readonly hypervisor: LabHypervisor;
  readonly seed: number;
  readonly rounds: number;
  readonly faults: Readonly<Record<Victim, number>>;
  /** Steps that changed the world more than once under one operation key. */
  readonly stepsTwice: number;
  /** Sessions that were alive before and are not afterwards, or whose TCP stream broke. */
  readonly sessionsLost: number;
  /** Machines, members or runs that belong to nothing. */
  readonly orphans: number;
  readonly packetsLost: number;
  readonly convergeMsP50: number | undefined;
  readonly convergeMsP99: number | undefined;
}

const SIZES = {
  netns: { clients: 6, sessions: 6, endpoints: 3, ghosts: 1, packetsPerSecond: 50 },
  // Two processors emulate four machines at a time at most.
  qemu: { clients: 3, sessions: 3, endpoints: 2, ghosts: 1, packetsPerSecond: 20 },
} as const satisfies Record<LabHypervisor, object>;
/** Audit rows that a move writes, about; kills are spread over them. */
const STEPS_OF_A_MOVE = 14;
const KILLS_PER_ROUND = 2;
/** Once it is written, the move has no later point to kill at. */
const LAST_STEP = "terminate the machine";
const BUDGET = { disruptedShareMaxPercent: 34, windowShareMaxPercent: 100, windowMs: 1_000, freezeUnhealthyPercent: 70 };

export async function benchChaos(options: ChaosOptions): Promise<ChaosFigures> {
  const { hypervisor, seed, rounds, onProgress } = options;
  const random = seededRandom(seed);
  const size = SIZES[hypervisor];
  const image = await imageFor(hypervisor, onProgress);
  const spec: SpecOverrides = { budget: BUDGET, thresholds: { coolDownMs: 0 }, foresight: { mode: "off" } };
  return await withLab({ ...size, image, spec, onProgress }, async (lab) => {
    const deal = dealer(VICTIMS, random);
    const faults = { control: 0, collector: 0, postgres: 0, temporal: 0, reflex: 0 };
    const convergeMs: number[] = [];
    await lab.open.lab.resetTraffic();
    for (let round = 1; round <= rounds; round += 1) {
      const kills = Array.from({ length: KILLS_PER_ROUND }, () => ({
        victim: deal(),
        afterRows: Math.floor(random() * STEPS_OF_A_MOVE),
      })).toSorted((a, b) => a.afterRows - b.afterRows);
      for (const { victim } of kills) faults[victim] += 1;
      convergeMs.push(await playRound(lab, size, kills));
      onProgress(
        `round ${round} of ${rounds}: ${kills.map(({ victim, afterRows }) => `${victim} after ${afterRows} steps`).join(", ")}`,
      );
    }
    const aftermath = await settle(lab, size.clients);
    const figures = { convergeMsP50: quantile(convergeMs, 0.5), convergeMsP99: quantile(convergeMs, 0.99) };
    return { machine: machine(), hypervisor, seed, rounds, faults, ...aftermath, ...figures };
  });
}

/** Milliseconds from the last kill to a whole swarm. */
async function playRound(
  lab: BenchLab,
  { endpoints: count, ghosts }: LabSize,
  kills: readonly { victim: Victim; afterRows: number }[],
): Promise<number> {
  const { open } = lab;
  const endpoint = await busiestEndpoint(open.balancer);
  const firstSeq = await lastAuditSeq(lab);
  await open.temporal.replaceEndpoint({ swarm: LAB_SWARM, endpoint, by: "chaos" });
  for (const { victim, afterRows } of kills) {
    await awaitRows(lab, firstSeq, afterRows);
    await kill(lab, victim);
  }
  const lastKillAtMs = performance.now();
  await awaitGone(open, endpoint);
  await awaitWhole(open, { count, ghosts });
  await awaitAtRest(open);
  return performance.now() - lastKillAtMs;
}

/** The point in the move, counted in steps that the audit trail shows; a move that ended before has no such point. */
async function awaitRows(lab: BenchLab, firstSeq: number, rows: number): Promise<void> {
  await until(
    async () => {
      const trail = await lab.open.store.auditTrail({ swarm: LAB_SWARM, afterSeq: firstSeq, limit: LIMITS.story.newsRowsMax });
      const over = trail.some(({ action }) => action === LAST_STEP);
      return trail.length >= rows || over ? true : undefined;
    },
    { what: `step ${rows} of the move`, timeoutMs: lab.open.patience.phaseTimeoutMs },
  );
}

async function kill({ running }: BenchLab, victim: Victim): Promise<void> {
  if (victim === "reflex") return await killByConfig("workers/reflex.ts", running.home);
  const pid = running.processes().find(({ name }) => name === victim)?.pid;
  if (pid !== undefined) process.kill(pid, "SIGKILL");
}

async function settle(
  lab: BenchLab,
  clients: number,
): Promise<Pick<ChaosFigures, "stepsTwice" | "sessionsLost" | "orphans" | "packetsLost">> {
  const { open } = lab;
  await until(async () => ((await liveSessions(lab)) === clients ? true : undefined), {
    what: "every session",
    timeoutMs: open.patience.phaseTimeoutMs,
  }).catch(() => undefined);
  const traffic = await open.lab.traffic();
  const broken = traffic.clients.filter(({ tcp }) => tcp.broken > 0).length;
  const machines = (await open.hypervisor.list(LAB_SWARM)).filter(({ state }) => state !== "gone");
  const members = new Set((await open.balancer.health()).map(({ endpoint }) => endpoint));
  const strays = machines.filter(({ name, state }) => state === "running" && !members.has(name)).length;
  const lasting = [swarmWorkflowId(LAB_SWARM), predictionIdOf(LAB_SWARM)];
  const runs = (await open.temporal.openRuns(LAB_SWARM)).filter((id) => !lasting.includes(id)).length;
  return {
    stepsTwice: await stepsTwice(lab),
    sessionsLost: clients - (await liveSessions(lab)) + broken,
    orphans: strays + runs,
    packetsLost: traffic.clients.reduce((total, { up, down }) => total + up.lost + down.lost, 0),
  };
}

async function liveSessions({ open }: BenchLab): Promise<number> {
  const members = new Set((await open.balancer.health()).map(({ endpoint }) => endpoint));
  const alive = (await open.balancer.sessions()).filter(({ endpoint }) => members.has(endpoint));
  return new Set(alive.map(({ publicKey }) => publicKey)).size;
}

/** Asks everyone who changes the world how often each operation key was executed. */
async function stepsTwice({ open, running }: BenchLab): Promise<number> {
  const agents = (await open.hypervisor.list(LAB_SWARM))
    .filter(({ state }) => state === "running")
    .map(({ link }) => link.agent);
  const { reflex, hypervisor } = running.connection.sockets;
  const dial = open.identity === undefined ? {} : { dial: dialer(open.identity, { expects: () => true }) };
  const journals = [{ socketPath: hypervisor }, ...[reflex, ...agents].map((socketPath) => ({ socketPath, ...dial }))];
  let twice = 0;
  for (const journal of journals) {
    const client = new UnixHttpClient({ ...journal, name: "journal" });
    const entries = await client.get<readonly { executions: number }[]>("/v1/journal", {
      timeoutMs: LIMITS.http.requestTimeoutMs + open.patience.handshakeTimeoutMs,
      retry: RETRY_IDEMPOTENT,
    });
    twice += entries.filter(({ executions }) => executions > 1).length;
    await client.close();
  }
  return twice;
}

async function lastAuditSeq({ open }: BenchLab): Promise<number> {
  return (await open.store.auditTrail({ swarm: LAB_SWARM, limit: 1 })).at(-1)?.seq ?? 0;
}
