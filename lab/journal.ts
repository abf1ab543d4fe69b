/**
 * Which operation was executed, how often, and what came of it. A key that succeeded is answered from here; the file lets a person
 * (and the chaos bench) see that nothing was done twice.
 */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";

const Line = z.object({
  operation: z.string(),
  action: z.enum(["launch", "resume", "suspend", "terminate", "repair"]),
  machine: z.string(),
  outcome: z.enum(["begun", "done", "failed"]),
  atMs: z.number(),
});
type Line = z.infer<typeof Line>;
export type Action = Line["action"];

export interface JournalEntry {
  readonly operation: string;
  readonly action: Action;
  readonly machine: string;
  /** Times that the action took effect; more than one is a defect. */
  executions: number;
  /** Executions that failed and left nothing. */
  failures: number;
  atMs: number;
}

export class Journal {
  readonly #path: string;
  readonly #file: number;
  readonly #entries = new Map<string, JournalEntry>();
  readonly #underWay = new Map<string, Promise<string>>();
  #highestMachine = 0;

  /** Continues the numbering of an earlier file; unless restored, its operations are of machines that are gone with their lab. */
  constructor(path: string) {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    if (existsSync(path)) {
      for (const text of readFileSync(path, "utf8").split("\n")) this.#noteMachine(parseLine(text));
    }
    this.#path = path;
    this.#file = openSync(path, "a", 0o600);
  }

  /**
   * What a process before this one has done to machines that are still there, by their names with the operation of their launch: asked for
   * again, it is answered from here.
   */
  restore(machines: ReadonlyMap<string, string>): void {
    for (const text of readFileSync(this.#path, "utf8").split("\n")) {
      const line = parseLine(text);
      if (line?.outcome !== "done" || !machines.has(line.machine)) continue;
      const { operation, action, machine, atMs } = line;
      const executions = (this.#entries.get(operation)?.executions ?? 0) + 1;
      this.#entries.set(operation, { operation, action, machine, executions, failures: 0, atMs });
    }
    for (const [machine, operation] of machines) {
      if (this.#entries.has(operation)) continue;
      const launch = { operation, action: "launch", machine, atMs: Date.now() } as const;
      this.#entries.set(operation, { ...launch, executions: 1, failures: 0 });
      this.#write({ ...launch, outcome: "done" });
    }
  }

  get entries(): readonly JournalEntry[] {
    return [...this.#entries.values()];
  }

  /** The next machine's number: never one that was used before. */
  nextNumber(): number {
    this.#highestMachine += 1;
    return this.#highestMachine;
  }

  /** Executes `run` unless this key has done so already; answers the machine's name. Callers at the same time share one execution. */
  async once(
    key: { operation: string; action: Action; machine: () => string },
    run: (machine: string) => Promise<void>,
  ): Promise<string> {
    const { operation, action } = key;
    const known = this.#entries.get(operation);
    if (known !== undefined && known.action !== action) {
      const detail = `this key was used to ${known.action} ${known.machine}; each step has its own`;
      throw new ForeshiftError("INVALID_FIELD", { field: "operation", value: operation, detail });
    }
    const running = this.#underWay.get(operation);
    if (running !== undefined) return await running;
    if (known !== undefined && known.executions > 0) return known.machine;
    const execution = this.#execute({ operation, action, machine: key.machine() }, run);
    this.#underWay.set(operation, execution);
    try {
      return await execution;
    } finally {
      this.#underWay.delete(operation);
    }
  }

  async #execute(
    step: { operation: string; action: Action; machine: string },
    run: (machine: string) => Promise<void>,
  ): Promise<string> {
    const before = this.#entries.get(step.operation);
    const entry: JournalEntry = { ...step, executions: 0, failures: before?.failures ?? 0, atMs: Date.now() };
    this.#entries.set(step.operation, entry);
    this.#forgetOldest();
    this.#write({ ...step, outcome: "begun", atMs: entry.atMs });
    try {
      await run(step.machine);
    } catch (thrown) {
      entry.failures += 1;
      this.#write({ ...step, outcome: "failed", atMs: Date.now() });
      throw thrown;
    }
    entry.executions += 1;
    this.#write({ ...step, outcome: "done", atMs: Date.now() });
    return step.machine;
  }

  close(): void {
    closeSync(this.#file);
  }

  #write(line: Line): void {
    this.#noteMachine(line);
    try {
      writeSync(this.#file, `${JSON.stringify(line)}\n`);
      fsyncSync(this.#file);
    } catch (thrown) {
      throw new ForeshiftError("DISK", { value: "the lab's journal", detail: messageOf(thrown) }, { cause: thrown });
    }
  }

  /** Launches alone name machines that exist; a terminate may name anything. */
  #noteMachine(line: Pick<Line, "action" | "machine"> | undefined): void {
    if (line?.action !== "launch") return;
    this.#highestMachine = Math.max(this.#highestMachine, Number(/-(\d+)$/.exec(line.machine)?.[1] ?? 0));
  }

  #forgetOldest(): void {
    for (const operation of this.#entries.keys()) {
      if (this.#entries.size <= LIMITS.lab.journalEntriesMax) return;
      this.#entries.delete(operation);
    }
  }
}

/** Undefined for a line that was cut off when the lab was killed. */
function parseLine(text: string): Line | undefined {
  try {
    return Line.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
