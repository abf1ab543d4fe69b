/** A kind of key, as an option of a command. */
import { InvalidArgumentError } from "commander";
import { KEY_KINDS, type KeyKind } from "../models/keys.ts";

export function kindOf(text: string): KeyKind {
  const kind = KEY_KINDS.find((known) => known === text);
  if (kind === undefined) throw new InvalidArgumentError(`Expected one of ${KEY_KINDS.join(", ")}.`);
  return kind;
}
