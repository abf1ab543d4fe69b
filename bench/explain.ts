/** What happened while packets were lost, in the order of time: the reflex's events, the audit trail and each client's longest gap. */
import type { LabTraffic } from "../lab/lab-client.ts";
import type { OpenLab } from "../lab/open-lab.ts";
import { LIMITS } from "../models/limits.ts";

interface Line {
  readonly atMs: number;
  readonly text: string;
}

/** The longest. */
const GAPS_SHOWN = 12;

/** `since`: the newest reflex event and audit row from before. Times are milliseconds after `startedAtMs`. */
export async function explainLoss(
  open: OpenLab,
  traffic: LabTraffic,
  since: { readonly startedAtMs: number; readonly eventSeq: number; readonly auditSeq: number },
): Promise<readonly string[]> {
  const events = await open.balancer.events({ after: since.eventSeq, waitMs: 0 });
  const rows = await open.store.auditTrail({ swarm: open.swarm, afterSeq: since.auditSeq, limit: LIMITS.story.newsRowsMax });
  const gaps = traffic.clients.flatMap(({ client, up, down }) =>
    [up, down].map(({ lost, longestGapMs, longestGapEndedAtMs = 0 }, direction) => {
      const way = direction === 0 ? "up" : "down";
      return {
        atMs: longestGapEndedAtMs,
        gapMs: longestGapMs,
        text: `${client} ${way}: a gap of ${Math.round(longestGapMs)} ms ends; ${lost} lost`,
      };
    }),
  );
  const worst = gaps.toSorted((a, b) => b.gapMs - a.gapMs).slice(0, GAPS_SHOWN);
  const lines: Line[] = [
    ...events.map(({ atMs, kind, text }) => ({ atMs, text: `reflex, ${kind}: ${text}` })),
    ...rows.map(({ atMs, action, outcome, text }) => ({ atMs, text: `${action}, ${outcome}: ${text}` })),
    ...worst,
  ];
  return lines
    .toSorted((a, b) => a.atMs - b.atMs)
    .map(({ atMs, text }) => `+${Math.round(atMs - since.startedAtMs)} ms ${text}`);
}
