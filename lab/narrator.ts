/**
 * Tells what happens while it happens: each thing seen, decided and done, one line, from the reflex's events and the audit trail.
 */
import type { Balancer, Store } from "../drivers/ports.ts";
import { LIMITS } from "../models/limits.ts";
import { until } from "./await.ts";
import { lastEventSeq } from "./trial.ts";

export interface Narrator {
  /** A line of the story itself. */
  say(who: string, text: string): void;
  /** Prints what is known and ends. */
  stop(): Promise<void>;
}

export interface NarratorSources {
  readonly balancer: Balancer;
  readonly store: Store;
  readonly swarm: string;
  readonly print: (line: string) => void;
}

const WHO_WIDTH = 9;
/** Of the reflex's events only these are news to a person; the rest is in `foreshift swarm events`. */
const TOLD_EVENTS = new Set(["ejected", "returned", "ejection-refused", "overloaded", "panic", "sessions-moved", "restarted"]);

/** Each step's row gives the reason of its run: told once, it is left out of the rows that follow. */
export class Reasons {
  readonly #told = new Map<string, Set<string>>();

  /** `text`: what was done, one sentence, and then the reason. */
  onceEach(text: string, run: string): string {
    const end = text.indexOf(". ");
    if (end === -1) return text;
    const reason = text.slice(end + 2);
    const told = this.#told.get(run) ?? new Set();
    this.#told.set(run, told);
    if (told.has(reason)) return text.slice(0, end + 1);
    told.add(reason);
    return text;
  }
}

export async function narrate(sources: NarratorSources): Promise<Narrator> {
  const startedAtMs = Date.now();
  const say = (who: string, text: string, atMs = Date.now()) => {
    const seconds = Math.max(0, atMs - startedAtMs) / 1_000;
    sources.print(`${seconds.toFixed(2).padStart(7)} s  ${who.padEnd(WHO_WIDTH)} ${text}`);
  };
  const reasons = new Reasons();
  const ending = new AbortController();
  const told = { reflexSeq: await lastEventSeq(sources.balancer), auditSeq: await lastAuditSeq(sources) };
  const tellNews = async () => {
    const events = await sources.balancer.events({ after: told.reflexSeq, waitMs: 0 });
    const rows = await sources.store.auditTrail({
      swarm: sources.swarm,
      afterSeq: told.auditSeq,
      limit: LIMITS.story.newsRowsMax,
    });
    told.reflexSeq = events.at(-1)?.seq ?? told.reflexSeq;
    told.auditSeq = rows.at(-1)?.seq ?? told.auditSeq;
    const news = [
      ...events.filter(({ kind }) => TOLD_EVENTS.has(kind)).map(({ atMs, text }) => ({ atMs, who: "reflex", text })),
      ...rows.map(({ atMs, text, outcome, workflowId }) => {
        const who = outcome === "failed" ? "FAILED" : "workflow";
        return { atMs, who, text: reasons.onceEach(text, workflowId ?? "") };
      }),
    ];
    for (const { who, text, atMs } of news.toSorted((a, b) => a.atMs - b.atMs)) say(who, text, atMs);
  };
  const telling = until(
    async () => {
      await tellNews();
      return ending.signal.aborted ? true : undefined;
    },
    { what: "the end of the story", timeoutMs: Number.POSITIVE_INFINITY },
  );
  return {
    say,
    stop: async () => {
      ending.abort();
      await telling;
    },
  };
}

async function lastAuditSeq({ store, swarm }: NarratorSources): Promise<number> {
  return (await store.auditTrail({ swarm, limit: 1 })).at(-1)?.seq ?? 0;
}
