/**
 * One trial of a move, planned or not, seen from the clients: what it cost them, and how long each part of it took. The story and
 * the benchmark are made of these.
 */
import type { Balancer, Hypervisor } from "../drivers/ports.ts";
import { LIMITS } from "../models/limits.ts";
import type { Patience } from "../models/patience.ts";
import type { SessionState } from "../models/session.ts";
import type { ReflexEvent } from "../models/steering.ts";
import { until } from "./await.ts";
import type { FaultKind, LabClient, LabTraffic } from "./lab-client.ts";
import { type Felt, felt, recoveries } from "./measure.ts";

export interface Surroundings {
  readonly lab: LabClient;
  readonly balancer: Balancer;
  readonly hypervisor: Hypervisor;
  readonly swarm: string;
  readonly patience: Patience;
}

type Waiting = Pick<Surroundings, "balancer" | "patience">;

export interface LossTrial extends Felt {
  readonly endpoint: string;
  readonly sessions: number;
  /** From the fault to the ejection. */
  readonly detectMs: number;
  /** From the fault to the last affected client's packets flowing again. */
  readonly recoverMs: number;
}

/** Gaps shorter than this are the noise of a busy machine, not a fault. */
const GAP_MS_MIN = 100;

/** Injects a fault that kills the data path, and waits until the sessions are back elsewhere and the counters are complete. */
export async function loseEndpoint(around: Surroundings, kind: FaultKind, endpoint: string): Promise<LossTrial> {
  const { balancer, lab } = around;
  const held = await sessionsOf(balancer, endpoint);
  const seqBefore = await lastEventSeq(balancer);
  await lab.resetTraffic();
  const fault = await lab.inject(kind, endpoint);
  const ejected = await awaitEjection(around, endpoint, seqBefore);
  await awaitSessionsElsewhere(around, held, endpoint, fault.atMs);
  const traffic = await settledTraffic(lab);
  // A gap of somebody else is not this endpoint's, whatever its cause.
  const lost = new Set(held.map(({ publicKey }) => publicKey));
  const affected = { ...traffic, clients: traffic.clients.filter(({ publicKey }) => lost.has(publicKey)) };
  return {
    ...felt(traffic),
    endpoint,
    sessions: held.length,
    detectMs: ejected.atMs - fault.atMs,
    recoverMs: Math.max(0, ...recoveries(affected, fault.atMs, GAP_MS_MIN)),
  };
}

/** The endpoint that holds the most sessions, of those that are fit to lose some. */
export async function busiestEndpoint(balancer: Balancer, not: readonly string[] = []): Promise<string> {
  return await until(
    async () => {
      const members = (await balancer.health()).filter(
        ({ ejected, draining, endpoint }) => !ejected && !draining && !not.includes(endpoint),
      );
      const busiest = members.toSorted((a, b) => b.sessions - a.sessions || a.endpoint.localeCompare(b.endpoint))[0];
      return busiest !== undefined && busiest.sessions > 0 ? busiest.endpoint : undefined;
    },
    { what: "an endpoint with sessions", timeoutMs: LIMITS.story.phaseTimeoutMs },
  );
}

export async function sessionsOf(balancer: Balancer, endpoint: string): Promise<readonly SessionState[]> {
  return (await balancer.sessions()).filter((session) => session.endpoint === endpoint);
}

export async function lastEventSeq(balancer: Balancer): Promise<number> {
  let after = 0;
  for (;;) {
    const events = await balancer.events({ after, waitMs: 0 });
    const last = events.at(-1);
    if (last === undefined) return after;
    after = last.seq;
  }
}

/** Every member of the table serves, as many as asked for, and the ghosts wait. */
export async function awaitWhole(around: Surroundings, want: { count: number; ghosts: number }): Promise<void> {
  await until(
    async () => {
      const health = await around.balancer.health();
      const serving = health.filter(
        (member) => !member.ejected && !member.draining && member.weight > 0 && member.inner.answersInARow > 0,
      );
      const machines = await around.hypervisor.list(around.swarm);
      const ghosts = machines.filter(({ state }) => state === "suspended").length;
      const running = machines.filter(({ state }) => state === "running").length;
      const whole = serving.length === want.count && health.length === want.count && running === want.count;
      return whole && ghosts === want.ghosts ? true : undefined;
    },
    { what: `a swarm of ${want.count} serving and ${want.ghosts} waiting`, timeoutMs: around.patience.phaseTimeoutMs },
  );
}

/** The machine is gone, and so is its place in the table. */
export async function awaitGone(around: Surroundings, endpoint: string): Promise<void> {
  await until(
    async () => {
      const members = (await around.balancer.health()).map((member) => member.endpoint);
      const machines = (await around.hypervisor.list(around.swarm))
        .filter(({ state }) => state !== "gone")
        .map(({ name }) => name);
      return members.includes(endpoint) || machines.includes(endpoint) ? undefined : true;
    },
    { what: `the end of ${endpoint}`, timeoutMs: around.patience.phaseTimeoutMs },
  );
}

/** Counters in which every packet sent up to the moment of the call is either received or lost. */
export async function settledTraffic(lab: LabClient): Promise<LabTraffic> {
  const askedAtMs = Date.now();
  return await until(
    async () => {
      const traffic = await lab.traffic();
      return traffic.countedToMs >= askedAtMs ? traffic : undefined;
    },
    { what: "the count of packets", timeoutMs: LIMITS.story.phaseTimeoutMs },
  );
}

async function awaitEjection({ balancer, patience }: Waiting, endpoint: string, afterSeq: number): Promise<ReflexEvent> {
  let after = afterSeq;
  return await until(
    async () => {
      const events = await balancer.events({ after, waitMs: LIMITS.http.connectTimeoutMs });
      after = events.at(-1)?.seq ?? after;
      return events.find((event) => event.kind === "ejected" && event.endpoint === endpoint);
    },
    { what: `the ejection of ${endpoint}`, timeoutMs: patience.phaseTimeoutMs },
  );
}

async function awaitSessionsElsewhere(
  { balancer, patience }: Waiting,
  held: readonly SessionState[],
  endpoint: string,
  faultAtMs: number,
): Promise<void> {
  const wanted = new Set(held.map(({ publicKey }) => publicKey));
  await until(
    async () => {
      const back = (await balancer.sessions()).filter(
        (session) =>
          wanted.has(session.publicKey) && session.endpoint !== endpoint && session.lastHandshakeMs >= faultAtMs - 1_000,
      );
      return new Set(back.map(({ publicKey }) => publicKey)).size === wanted.size ? true : undefined;
    },
    { what: `the ${wanted.size} sessions of ${endpoint}`, timeoutMs: patience.phaseTimeoutMs },
  );
}
