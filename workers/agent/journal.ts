/**
 * Which operations were carried out: asked twice with one key, the world changes once. On disk, so that this holds over a restart.
 */
import { appendFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "pino";
import { messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";

export interface JournalEntry {
  readonly operation: string;
  readonly action: string;
  /** How often it was begun; more than once only after a failure or a crash in its midst. */
  readonly executions: number;
  /** How many of the executions changed something. */
  readonly effective: number;
  readonly startedAtMs: number;
  readonly doneAtMs: number | undefined;
}

export class Journal {
  readonly #path: string;
  readonly #log: Logger;
  readonly #entries = new Map<string, JournalEntry>();
  readonly #running = new Map<string, Promise<void>>();
  #lines = 0;

  constructor(stateDir: string, log: Logger) {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    this.#path = join(stateDir, "journal.ndjson");
    this.#log = log;
    this.#load();
  }

  entries(): readonly JournalEntry[] {
    return [...this.#entries.values()];
  }

  /**
   * Carries `work` out unless this operation was done before; a call during its execution waits for that one. `work` answers how
   * many things it changed. A failed execution may be repeated.
   */
  async once(operation: string, action: string, work: () => Promise<number>): Promise<void> {
    const key = `${action} ${operation}`;
    const running = this.#running.get(key);
    if (running !== undefined) return await running;
    if (this.#entries.get(key)?.doneAtMs !== undefined) return;
    const execution = this.#execute(key, operation, action, work).finally(() => this.#running.delete(key));
    this.#running.set(key, execution);
    await execution;
  }

  async #execute(key: string, operation: string, action: string, work: () => Promise<number>): Promise<void> {
    const before = this.#entries.get(key);
    const effective = before?.effective ?? 0;
    const begun = {
      operation,
      action,
      executions: (before?.executions ?? 0) + 1,
      effective,
      startedAtMs: Date.now(),
      doneAtMs: undefined,
    };
    this.#write(key, begun);
    const changed = await work();
    this.#write(key, { ...begun, effective: effective + (changed > 0 ? 1 : 0), doneAtMs: Date.now() });
  }

  /** A full disk must not keep sessions from being saved: then the entry lives in memory alone. */
  #write(key: string, entry: JournalEntry): void {
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= LIMITS.agent.journalEntriesMax) break;
      this.#entries.delete(oldest);
    }
    try {
      this.#lines += 1;
      if (this.#lines > LIMITS.agent.journalEntriesMax * 4) this.#compact();
      else appendFileSync(this.#path, `${JSON.stringify(entry)}\n`, { mode: 0o600 });
    } catch (thrown) {
      this.#log.error({ event: "journal-not-written", detail: messageOf(thrown) });
    }
  }

  #compact(): void {
    const temporary = `${this.#path}.tmp`;
    writeFileSync(
      temporary,
      this.entries()
        .map((entry) => `${JSON.stringify(entry)}\n`)
        .join(""),
      { mode: 0o600 },
    );
    renameSync(temporary, this.#path);
    this.#lines = this.#entries.size;
  }

  #load(): void {
    let text = "";
    try {
      text = readFileSync(this.#path, "utf8");
    } catch {
      return;
    }
    for (const line of text.split("\n")) {
      if (line === "") continue;
      this.#lines += 1;
      try {
        const entry = JSON.parse(line) as JournalEntry;
        const key = `${entry.action} ${entry.operation}`;
        this.#entries.delete(key);
        this.#entries.set(key, entry);
      } catch {
        // A line cut short by a crash: its operation counts as begun at most, by the line before.
        this.#log.warn({ event: "journal-line-skipped" });
      }
    }
  }
}
