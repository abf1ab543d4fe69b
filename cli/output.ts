/** How every command answers: words for a person, or with `--json` one JSON document. */
import type { Command } from "commander";

export function wantsJson(command: Command): boolean {
  return command.optsWithGlobals<{ json?: boolean }>().json === true;
}

export function print<T>(command: Command, value: T, words: (value: T) => string): void {
  console.log(wantsJson(command) ? JSON.stringify(value, null, 2) : words(value));
}
