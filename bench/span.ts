/**
 * What a span of time cost and needed, seen from outside twice a second: packets the clients lost, machines that ran, endpoints that
 * automation drained or gave less weight, and when.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { AuditRow } from "../drivers/ports.ts";
import type { ClientTraffic, LabTraffic } from "../lab/lab-client.ts";
import { type Felt, felt } from "../lab/measure.ts";
import type { OpenLab } from "../lab/open-lab.ts";
import { settledTraffic } from "../lab/trial.ts";
import { FAILS_WITHIN } from "../models/foresight.ts";
import { LIMITS } from "../models/limits.ts";

const SAMPLE_MS = 500;

export interface SpanCost extends Felt {
  /** Machines that run (not suspended) times hours, and of these the members of the balancer. */
  readonly capacityHours: number;
  readonly endpointHours: number;
  /** Steps of automation on endpoints, in the order of time. */
  readonly steps: readonly AutomaticStep[];
}

/** Automation takes an endpoint out of service, or part of its load away. */
export interface AutomaticStep {
  readonly endpoint: string;
  readonly kind: "drain" | "less-weight";
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
}

/** Watches until `untilMs` (Unix milliseconds). The counters begin at zero with it. */
export async function watchSpan(open: OpenLab, untilMs: number, onLook: (look: Look) => Promise<void>): Promise<SpanCost> {
  const firstSeq = await lastAuditSeq(open);
  let before = await open.lab.traffic();
  let [capacityMs, endpointMs, lastMs] = [0, 0, Date.now()];
  while (Date.now() < untilMs) {
    await delay(Math.min(SAMPLE_MS, Math.max(1, untilMs - Date.now())));
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
    await onLook({ atMs: nowMs, before, after: traffic });
    before = traffic;
  }
  const cost = felt(await settledTraffic(open.lab));
  const rows = await open.store.auditTrail({ swarm: open.swarm, afterSeq: firstSeq, limit: LIMITS.story.newsRowsMax });
  const steps = rows.flatMap((row) => stepOf(row) ?? []);
  return { ...cost, capacityHours: capacityMs / MS_PER_HOUR, endpointHours: endpointMs / MS_PER_HOUR, steps };
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

async function lastAuditSeq(open: OpenLab): Promise<number> {
  return (await open.store.auditTrail({ swarm: open.swarm, limit: 1 })).at(-1)?.seq ?? 0;
}

/** A weight that a replacement gets after it has joined, or that is raised again, is no such step. */
function stepOf({ action, endpoint, atMs, text, details, workflowId = "" }: AuditRow): AutomaticStep | undefined {
  if (endpoint === undefined) return undefined;
  const predicted = text.includes(FAILS_WITHIN);
  if (action === "drain") return { endpoint, kind: "drain", atMs, predicted, text };
  const weight = (details as { weight?: unknown }).weight;
  const isLess =
    action === "set weight" && workflowId.startsWith("swarm/") && typeof weight === "number" && weight < FULL_WEIGHT;
  return isLess ? { endpoint, kind: "less-weight", atMs, predicted, text } : undefined;
}

const FULL_WEIGHT = 100;
