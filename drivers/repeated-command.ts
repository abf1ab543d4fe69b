/**
 * A command that is run again and again in the same words, by a shell that stays: to start a process from one as large as this costs more
 * than such a command does, on an emulated processor ten times as much.
 */
import { randomUUID } from "node:crypto";
import { StringDecoder } from "node:string_decoder";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import { KeptChild, type Question } from "./kept-child.ts";
import { runCommand } from "./run-command.ts";

/** Says after each run's output whether it succeeded; ends when nobody is there to ask. */
const LOOP = 'while read -r mark; do "$@" 2>/dev/null; echo "$mark $?"; done';

/** `output`: undefined where the command failed. */
interface Ran {
  readonly output: string | undefined;
}

export class RepeatedCommand {
  readonly #file: string;
  readonly #args: readonly string[];
  readonly #shell: KeptChild;

  constructor(file: string, args: readonly string[]) {
    this.#file = file;
    this.#args = args;
    this.#shell = new KeptChild("sh", ["-c", LOOP, "sh", file, ...args]);
  }

  /** As `runCommand`, which is asked for its word where this fails. One run after the other. */
  async run(timeoutMs: number): Promise<string> {
    const ran = await this.#shell.ask(() => this.#question(timeoutMs));
    return ran?.output ?? (await runCommand(this.#file, this.#args, { timeoutMs }));
  }

  #question(timeoutMs: number): Question<Ran> {
    const field = [this.#file, ...this.#args].join(" ");
    const mark = randomUUID();
    const decoder = new StringDecoder("utf8");
    let output = "";
    const read = (bytes: Buffer) => {
      output += decoder.write(bytes);
      if (output.length > LIMITS.command.outputCharsMax)
        throw new ForeshiftError("COMMAND_FAILED", { field, detail: `more than ${LIMITS.command.outputCharsMax} characters` });
      const at = output.lastIndexOf(mark);
      if (at === -1 || !output.endsWith("\n")) return undefined;
      const succeeded = output.slice(at + mark.length).trim() === "0";
      return { answer: { output: succeeded ? output.slice(0, at) : undefined } };
    };
    return { text: `${mark}\n`, read, field, timeoutMs };
  }
}
