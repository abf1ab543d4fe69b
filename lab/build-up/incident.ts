/** What a provider announces and what then comes true: an incident in the machine's zone, and the machine stands still. */
import { signalHost } from "../namespace.ts";
import type { OutsideFeedFile } from "../outside-feed-file.ts";
import type { BuildUpOptions, FaultAtWork } from "./course.ts";

/** How long the announcement says that it lasts. */
const LASTS_MS = 600_000;
const SEVERITY = 0.9;
const CONFIDENCE = 0.9;

/** A machine that is started again while the incident lasts stands still again. */
export class Incident implements FaultAtWork {
  readonly begun: Promise<void>;
  readonly #endpoint: string;
  readonly #feed: OutsideFeedFile;
  readonly #id: string;
  readonly #timer: NodeJS.Timeout;
  #frozen = false;

  constructor({ endpoint, buildUpMs }: BuildUpOptions, where: { readonly zone: string; readonly feed: OutsideFeedFile }) {
    const startsAtMs = Date.now() + buildUpMs;
    this.#endpoint = endpoint;
    this.#feed = where.feed;
    this.#id = `lab/${endpoint}/${startsAtMs}`;
    this.begun = where.feed.add({
      id: this.#id,
      kind: "provider-incident",
      zone: where.zone,
      startsAtMs,
      endsAtMs: startsAtMs + LASTS_MS,
      severity: SEVERITY,
      confidence: CONFIDENCE,
      text: `power is expected to fail in ${where.zone}`,
    });
    this.#timer = setTimeout(() => {
      this.#frozen = true;
      this.repaired();
    }, buildUpMs);
  }

  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#frozen) signalHost(this.#endpoint, "SIGCONT");
    this.#frozen = false;
    await this.#feed.remove(this.#id);
  }

  repaired(): void {
    if (this.#frozen) signalHost(this.#endpoint, "SIGSTOP");
  }
}
