/**
 * What a span of time cost and needed, seen from outside: packets the clients lost, machines that ran, endpoints that automation
 * drained, gave less weight, ejected or added, and when.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { AuditRow } from "../drivers/ports.ts";
import type { ClientTraffic, LabTraffic } from "../lab/lab-client.ts";
import { type Felt, felt } from "../lab/measure.ts";
import type { OpenLab } from "../lab/open-lab.ts";
import { lastEventSeq, settledTraffic } from "../lab/trial.ts";
import { addRunIds } from "../models/decision.ts";
import { FAILS_WITHIN } from "../models/foresight.ts";
import { LIMITS } from "../models/limits.ts";
import type { MemberHealth } from "../models/steering.ts";

export interface SpanCost extends Felt {
  /** Machines that run (not suspended) times hours, and of these the members of the balancer. */
  readonly capacityHours: number;
  readonly endpointHours: number;
  /** Steps of automation on endpoints, in the order of time. */
  readonly steps: readonly AutomaticStep[];
}

/** Automation takes an endpoint out of service or part of its load away, or brings another one. */
export interface AutomaticStep {
  readonly endpoint: string;
  readonly kind: "drain" | "less-weight" | "ejection" | "more-endpoints" | "relief";
  /** Unix milliseconds. */
  readonly atMs: number;
  /** Its reason is what is expected, not what is measured. */
  readonly predicted: boolean;
  readonly text: string;
}

/** Two looks that follow one another. */
export interface Look {
  /** Unix milliseconds of the later one. */
  readonly atMs: number;
  readonly before: LabTraffic;
  readonly after: LabTraffic;
  readonly members: readonly MemberHealth[];
}

export interface SpanOptions {
  /** Unix milliseconds. */
  readonly untilMs: number;
  readonly lookEveryMs: number;
  readonly onLook?: (look: Look) => Promise<void>;
}

/** Watches until the time is up. The counters begin at zero with it. */
export async function watchSpan(open: OpenLab, { untilMs, lookEveryMs, onLook }: SpanOptions): Promise<SpanCost> {
  const firstSeq = (await auditRows(open, 0)).at(-1)?.seq ?? 0;
  const firstEvent = await lastEventSeq(open.balancer);
  let before = await open.lab.traffic();
  let [capacityMs, endpointMs, lastMs] = [0, 0, Date.now()];
  while (Date.now() < untilMs) {
    await delay(Math.min(lookEveryMs, Math.max(1, untilMs - Date.now())));
    const [machines, members, traffic] = await Promise.all([
      open.hypervisor.list(open.swarm),
      open.balancer.health(),
      open.lab.traffic(),
    ]);
    const nowMs = Date.now();
    const running = new Set(machines.filter(({ state }) => state === "running").map(({ name }) => name));
    capacityMs += running.size * (nowMs - lastMs);
    endpointMs += members.filter(({ endpoint }) => running.has(endpoint)).length * (nowMs - lastMs);
    lastMs = nowMs;
    await onLook?.({ atMs: nowMs, before, after: traffic, members });
    before = traffic;
  }
  const cost = felt(await settledTraffic(open.lab));
  const steps = [...(await auditRows(open, firstSeq)).flatMap(stepsOf), ...(await ejections(open, firstEvent))];
  return {
    ...cost,
    capacityHours: capacityMs / MS_PER_HOUR,
    endpointHours: endpointMs / MS_PER_HOUR,
    steps: steps.toSorted((one, other) => one.atMs - other.atMs),
  };
}

/** Packets that the client lost of those sent between two looks, both directions together, and their share. */
export function lostBetween({ before, after }: Look, publicKey: string): { lost: number; share: number } {
  const [old, now] = [before, after].map(({ clients }) => clients.find((client) => client.publicKey === publicKey));
  if (old === undefined || now === undefined) return { lost: 0, share: 0 };
  const of = (client: ClientTraffic, what: "sent" | "lost") => client.up[what] + client.down[what];
  const lost = of(now, "lost") - of(old, "lost");
  const sent = of(now, "sent") - of(old, "sent");
  return { lost, share: sent > 0 ? lost / sent : 0 };
}

const MS_PER_HOUR = 3_600_000;

/** All of them after this one, however many. */
async function auditRows({ store, swarm }: OpenLab, afterSeq: number): Promise<readonly AuditRow[]> {
  const limit = LIMITS.story.newsRowsMax;
  const rows: AuditRow[] = [];
  for (;;) {
    const next = await store.auditTrail({ swarm, afterSeq: rows.at(-1)?.seq ?? afterSeq, limit });
    rows.push(...next);
    if (next.length < limit) return rows;
  }
}

type StepRow = Pick<AuditRow, "action" | "endpoint" | "atMs" | "text" | "details" | "swarm" | "workflowId">;

/** A weight that a replacement gets after it has joined, or that is raised again, is no such step. */
export function stepsOf(row: StepRow): readonly AutomaticStep[] {
  const { action, endpoint, atMs, text, details, swarm, workflowId = "" } = row;
  if (endpoint === undefined) return [];
  const step = (kind: AutomaticStep["kind"]) => [{ endpoint, kind, atMs, predicted: text.includes(FAILS_WITHIN), text }];
  // The run writes another one when it has ended.
  if (action === "drain") return (details as { draining?: unknown }).draining === true ? step("drain") : [];
  if (addRunIds(swarm).includes(workflowId) && OBTAINED.includes(action)) return step("more-endpoints");
  if (action === "relieve") return step("relief");
  const weight = (details as { weight?: unknown }).weight;
  const isLess =
    action === "set weight" && workflowId.startsWith("swarm/") && typeof weight === "number" && weight < FULL_WEIGHT;
  return isLess ? step("less-weight") : [];
}

/** How a machine is obtained, as the audit trail calls it. */
const OBTAINED = ["launch a machine", "wake the ghost"];

async function ejections({ balancer }: OpenLab, afterSeq: number): Promise<readonly AutomaticStep[]> {
  const steps: AutomaticStep[] = [];
  let after = afterSeq;
  for (;;) {
    const events = await balancer.events({ after, waitMs: 0 });
    const last = events.at(-1);
    if (last === undefined) return steps;
    after = last.seq;
    for (const { kind, endpoint, atMs, text } of events)
      if (kind === "ejected" && endpoint !== undefined)
        steps.push({ endpoint, kind: "ejection", atMs, predicted: false, text });
  }
}

const FULL_WEIGHT = 100;
