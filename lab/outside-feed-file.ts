/**
 * The lab's feed of outside events, as a provider would keep one: a JSON list in a file, which the collector reads (docs/operations.md).
 */
import { writePrivateFile } from "./files.ts";

export interface AnnouncedEvent {
  readonly id: string;
  readonly kind: "provider-incident";
  readonly zone: string;
  /** Unix milliseconds. */
  readonly startsAtMs: number;
  readonly endsAtMs: number;
  /** 0..1. */
  readonly severity: number;
  readonly confidence: number;
  readonly text: string;
}

/** Invariant: what is written last is all that was announced and not taken back. */
export class OutsideFeedFile {
  readonly #file: string;
  readonly #region: string;
  readonly #events = new Map<string, AnnouncedEvent>();
  #writing: Promise<void> = Promise.resolve();

  constructor(options: { file: string; region: string }) {
    this.#file = options.file;
    this.#region = options.region;
  }

  add(event: AnnouncedEvent): Promise<void> {
    this.#events.set(event.id, event);
    return this.write();
  }

  async remove(id: string): Promise<void> {
    if (this.#events.delete(id)) await this.write();
  }

  /** Also with nothing announced: a reader finds a list from the start. */
  write(): Promise<void> {
    const turn = this.#writing.then(() => writePrivateFile(this.#file, `${JSON.stringify(this.#entries(), null, 2)}\n`));
    this.#writing = turn.catch(() => undefined);
    return turn;
  }

  #entries(): readonly object[] {
    return [...this.#events.values()].map(({ startsAtMs, endsAtMs, ...rest }) => ({
      ...rest,
      source: "lab",
      region: this.#region,
      startsAt: new Date(startsAtMs).toISOString(),
      endsAt: new Date(endsAtMs).toISOString(),
    }));
  }
}
