/**
 * The state that every span begins from: all endpoints serve at full weight, all hold as many sessions, nothing is under way, and so it has
 * been for a while. And what keeps a lab from it, in words.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Machine } from "../drivers/ports.ts";
import { until } from "../lab/await.ts";
import type { OpenLab } from "../lab/open-lab.ts";
import type { RunUnderWay } from "../models/decision.ts";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import type { SessionState } from "../models/session.ts";
import type { MemberHealth } from "../models/steering.ts";
import type { EndpointRecord, Request } from "../models/swarm-state.ts";
import { spreadEvenly } from "./even-spread.ts";
import type { BenchLab } from "./with-lab.ts";

export interface Size {
  readonly endpoints: number;
  readonly ghosts: number;
  readonly sessions: number;
}

/** What is seen of a swarm at one moment. */
export interface SwarmView {
  readonly members: readonly MemberView[];
  readonly machines: readonly Pick<Machine, "name" | "state">[];
  readonly sessions: readonly Pick<SessionState, "publicKey" | "endpoint">[];
  readonly status: {
    readonly endpoints: readonly Pick<EndpointRecord, "endpoint" | "phase">[];
    readonly runs: readonly Pick<RunUnderWay, "workflowId">[];
    readonly requested: readonly Pick<Request, "kind" | "endpoint">[];
    /** Lines of its board, the latest first. */
    readonly recent: readonly string[];
  };
}

type MemberView = Pick<MemberHealth, "endpoint" | "weight" | "effectiveWeight" | "draining" | "ejected" | "overloaded"> & {
  readonly inner: Pick<MemberHealth["inner"], "answersInARow">;
};

/** Lines of the swarm's board in an error. */
const RECENT_LINES = 3;
/** How often sessions are spread before a lab that does not hold still is given up. */
const SPREADS_MAX = 3;
const POLL_MS = 500;

/** NOT_READY, with what keeps the swarm from it, when it does not come to rest in time. */
export async function beginFresh(lab: BenchLab, size: Size): Promise<void> {
  const { open, running, servesSinceMs } = lab;
  const { restMs, restTimeoutMs } = LIMITS.bench;
  // Who holds too many sessions has less weight for as long as it does.
  await awaitRest(open, { ...size, weight: undefined }, { forMs: 0, timeoutMs: restTimeoutMs });
  await spreadEvenly(open);
  // Predictions look back on a time in which the swarm was there.
  await delay(Math.max(0, servesSinceMs + running.spec.foresight.windowMs - Date.now()));
  for (let turn = 1; turn <= SPREADS_MAX; turn++) {
    await awaitRest(open, { ...size, weight: running.spec.endpoints.weight }, { forMs: restMs, timeoutMs: restTimeoutMs });
    // An ejection meanwhile has left sessions elsewhere.
    if (!(await spreadEvenly(open))) return;
  }
  throw new ForeshiftError("NOT_READY", {
    value: "the bench's lab",
    detail: `its sessions did not stay where they were spread to, ${SPREADS_MAX} times`,
  });
}

/** `weight`: of each member; undefined where any will do. */
interface Rest extends Size {
  readonly weight: number | undefined;
}

async function awaitRest(open: OpenLab, want: Rest, span: { forMs: number; timeoutMs: number }): Promise<void> {
  let restsSinceMs: number | undefined;
  await until(
    async () => {
      const view = await viewOf(open);
      const unrest = whatIsUnrest(view, want);
      const nowMs = performance.now();
      restsSinceMs = unrest.length === 0 ? (restsSinceMs ?? nowMs) : undefined;
      if (restsSinceMs !== undefined) return nowMs - restsSinceMs >= span.forMs ? true : undefined;
      // The last of these is what the person reads.
      throw new Error([...unrest, ...view.status.recent.slice(0, RECENT_LINES)].join("; "));
    },
    { what: "a swarm at rest", timeoutMs: span.timeoutMs, pollMs: POLL_MS },
  );
}

async function viewOf({ balancer, hypervisor, temporal, swarm }: OpenLab): Promise<SwarmView> {
  const [members, machines, sessions, status] = await Promise.all([
    balancer.health(),
    hypervisor.list(swarm),
    balancer.sessions(),
    temporal.status(swarm),
  ]);
  return { members, machines, sessions, status };
}

/** One sentence for each thing that is not as it should be; none of a swarm at rest. */
export function whatIsUnrest(view: SwarmView, want: Rest): readonly string[] {
  const { members, machines, sessions, status } = view;
  const names = new Set(members.map(({ endpoint }) => endpoint));
  const served = new Set(sessions.filter(({ endpoint }) => names.has(endpoint)).map(({ publicKey }) => publicKey)).size;
  const count = (state: Machine["state"]) => machines.filter((machine) => machine.state === state).length;
  const known = new Map(status.endpoints.map((record) => [record.endpoint, record.phase]));
  const numbers: readonly (readonly [what: string, is: number, wanted: number])[] = [
    ["members", members.length, want.endpoints],
    ["machines run", count("running"), want.endpoints],
    ["ghosts wait", count("suspended"), want.ghosts],
  ];
  return [
    ...numbers.flatMap(([what, is, wanted]) => (is === wanted ? [] : [`${is} instead of ${wanted} ${what}`])),
    ...(served < want.sessions ? [`${served} of ${want.sessions} sessions are served`] : []),
    ...members.flatMap((member) => whatAilsMember(member, want.weight)),
    ...members.flatMap(({ endpoint }) =>
      (known.get(endpoint) ?? "joining") === "joining" ? [`the swarm does not count on ${endpoint} yet`] : [],
    ),
    ...status.runs.map(({ workflowId }) => `${workflowId} is under way`),
    ...status.requested.map(({ kind, endpoint }) => `a ${kind} of ${endpoint} waits`),
  ];
}

function whatAilsMember(member: MemberView, weight: number | undefined): readonly string[] {
  const { endpoint, draining, ejected, overloaded, inner } = member;
  const flags = [
    ...(draining ? ["is draining"] : []),
    ...(ejected ? ["is ejected"] : []),
    ...(inner.answersInARow === 0 ? ["does not answer"] : []),
  ];
  if (weight !== undefined && overloaded === true) flags.push("is overloaded");
  if (weight !== undefined && member.weight !== weight) flags.push(`has weight ${member.weight} of ${weight}`);
  else if (weight !== undefined && flags.length === 0 && member.effectiveWeight < weight)
    flags.push(`has weight ${member.effectiveWeight} of ${weight} in force`);
  return flags.map((flag) => `${endpoint} ${flag}`);
}
