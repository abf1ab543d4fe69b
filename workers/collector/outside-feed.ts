/**
 * The feed of outside events: read from a file or an URL every so often, checked entry by entry, and stored. While it cannot be read,
 * what it said last holds.
 */
import { readFile, stat } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import { request } from "undici";
import { z } from "zod";
import type { PostgresStore } from "../../drivers/store/store.ts";
import { messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import { type ReadFeed, readFeed } from "../../models/outside-events.ts";

const { bytesMax, eventsMax, fetchTimeoutMs, pollMsDefault, pollMsMin, refusedNamedMax, retentionMs } = LIMITS.outsideEvents;

export const OutsideFeedConfig = z
  .strictObject({
    /** Names the feed in the database, where each feed's events are its own. */
    name: z.string().min(1).max(64).default("outside"),
    file: z.string().min(1).optional(),
    url: z.url({ protocol: /^https?$/ }).optional(),
    pollMs: z.number().int().min(pollMsMin).default(pollMsDefault),
  })
  .refine(({ file, url }) => (file === undefined) !== (url === undefined), { message: "expected either file or url" });
export type OutsideFeedConfig = z.infer<typeof OutsideFeedConfig>;

export interface OutsideFeedCounts {
  readonly read: number;
  readonly failed: number;
  /** Of the document that was read last. */
  readonly events: number;
  readonly refusedTotal: number;
}

export class OutsideFeed {
  readonly #config: OutsideFeedConfig;
  readonly #store: PostgresStore;
  readonly #log: Logger;
  readonly #onChange: () => void;
  #read = 0;
  #failed = 0;
  #events = 0;
  #refused = 0;
  #failing = false;
  /** What was refused last, so that the same document is complained of once. */
  #complaint = "";

  constructor(parts: { config: OutsideFeedConfig; store: PostgresStore; log: Logger; onChange: () => void }) {
    this.#config = parts.config;
    this.#store = parts.store;
    this.#log = parts.log;
    this.#onChange = parts.onChange;
  }

  counts(): OutsideFeedCounts {
    return { read: this.#read, failed: this.#failed, events: this.#events, refusedTotal: this.#refused };
  }

  async follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.poll(Date.now());
      await delay(this.#config.pollMs, undefined, { signal }).catch(() => undefined);
    }
  }

  async poll(nowMs: number): Promise<void> {
    const { name } = this.#config;
    try {
      const feed = readFeed(JSON.parse(await this.#document()));
      if (feed === undefined) throw new Error(`expected a list of at most ${eventsMax} events`);
      this.#note(feed);
      const changed = await this.#store.saveOutsideEvents(name, feed.events);
      await this.#store.deleteOutsideEventsBefore(nowMs - retentionMs);
      this.#read += 1;
      if (changed) this.#onChange();
      if (changed || this.#failing) this.#log.info({ event: "outside-events", feed: name, events: feed.events.length });
      this.#failing = false;
    } catch (thrown) {
      this.#failed += 1;
      if (!this.#failing) this.#log.warn({ event: "outside-events-unreadable", feed: name, detail: detailOf(thrown) });
      this.#failing = true;
    }
  }

  #note(feed: ReadFeed): void {
    this.#events = feed.events.length;
    this.#refused += feed.refused.length;
    const refused = feed.refused.slice(0, refusedNamedMax);
    const complaint = JSON.stringify(refused);
    if (feed.refused.length > 0 && complaint !== this.#complaint)
      this.#log.warn({ event: "outside-events-refused", feed: this.#config.name, count: feed.refused.length, refused });
    this.#complaint = complaint;
  }

  async #document(): Promise<string> {
    const { file, url } = this.#config;
    if (file !== undefined) {
      const { size } = await stat(file);
      if (size > bytesMax) throw new Error(`it has ${size} bytes; at most ${bytesMax} are read`);
      return await readFile(file, "utf8");
    }
    return await fetchText(url ?? "");
  }
}

async function fetchText(url: string): Promise<string> {
  const signal = AbortSignal.timeout(fetchTimeoutMs);
  const { statusCode, body } = await request(url, { signal, headers: { accept: "application/json" } });
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    const part = Buffer.from(chunk as Uint8Array);
    bytes += part.length;
    if (bytes > bytesMax) throw new Error(`it has more than ${bytesMax} bytes`);
    chunks.push(part);
  }
  if (statusCode !== 200) throw new Error(`the server answered ${statusCode}`);
  return Buffer.concat(chunks).toString("utf8");
}

/** The parser's message would quote the document. */
function detailOf(thrown: unknown): string {
  return thrown instanceof SyntaxError ? "it is not JSON" : messageOf(thrown);
}
