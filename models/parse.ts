/**
 * Parsing at the border: anything that comes from outside goes through a schema once and is trusted afterwards.
 */
import type { z } from "zod";
import { ForeshiftError } from "./errors.ts";

const SHOWN_VALUE_CHARS_MAX = 80;
/** Fields with such names may hold a secret, so what was found in them is never shown. */
const SECRET_NAME = /url$|token$|password$|secret|private/i;

/**
 * The parsed input, or INVALID_FIELD naming the first field that is wrong, the value found there and what was expected.
 * `root` names the whole input, e.g. `body` or `swarm file`, for when it is wrong as a whole.
 */
export function parseInput<T>(schema: z.ZodType<T>, input: unknown, root: string): T {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const path = issue?.path ?? [];
  throw new ForeshiftError("INVALID_FIELD", {
    field: path.length === 0 ? root : path.map(String).join("."),
    value: shownAt(input, path),
    detail: issue?.message ?? "it does not have the expected form",
  });
}

/** What was found at a path, in a form that may be shown to a person. */
export function shownAt(input: unknown, path: readonly PropertyKey[]): string {
  return SECRET_NAME.test(String(path.at(-1))) ? "a value that is not shown" : shown(valueAt(input, path));
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const key of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}

function shown(value: unknown): string {
  const text = value === undefined ? "nothing" : (JSON.stringify(value) ?? typeof value);
  return text.length > SHOWN_VALUE_CHARS_MAX ? `${text.slice(0, SHOWN_VALUE_CHARS_MAX)}…` : text;
}
