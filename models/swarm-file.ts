/**
 * A swarm file from text to SwarmSpec. What is wrong with it is said in terms of the file: the field, what was found there, what was
 * expected, and for a field that does not exist the one that was probably meant.
 */
import { parseAllDocuments } from "yaml";
import { z } from "zod";
import { ForeshiftError } from "./errors.ts";
import { LIMITS } from "./limits.ts";
import { shownAt } from "./parse.ts";
import { checkSwarmSpec } from "./swarm-check.ts";
import { SwarmSpec } from "./swarm-spec.ts";

const ROOT = "swarm file";

/** Throws INVALID_FIELD or DUPLICATE_NAME. JSON is read as YAML, of which it is a part, but has to be JSON. */
export function parseSwarmFile(text: string, format: "yaml" | "json" = "yaml"): SwarmSpec {
  if (text.length > LIMITS.swarmFile.bytesMax)
    refuse(ROOT, `${text.length} characters`, `expected at most ${LIMITS.swarmFile.bytesMax}`);
  if (format === "json") assertJson(text);
  const input = readDocument(text);
  const result = SwarmSpec.safeParse(input);
  if (!result.success) throw errorOf(result.error, input);
  checkSwarmSpec(result.data);
  return result.data;
}

function readDocument(text: string): unknown {
  const documents = parseAllDocuments(text, { uniqueKeys: true, prettyErrors: true, logLevel: "error" });
  const [first, ...others] = [...documents];
  const problem = [...documents].flatMap((one) => one.errors)[0];
  if (problem !== undefined) throw syntaxError(problem.code, problem.message, text, problem.pos[0]);
  if (first === undefined || first.contents === null)
    refuse(ROOT, "nothing", "expected the fields of a swarm: apiVersion, kind, name …");
  const input = toPlain(first);
  for (const other of others) {
    const name = nameOf(toPlain(other));
    if (name !== undefined && name === nameOf(input))
      throw new ForeshiftError("DUPLICATE_NAME", { field: "name", value: name });
  }
  if (others.length > 0) refuse(ROOT, `${others.length + 1} documents`, "expected one: a file states one swarm");
  return input;
}

function toPlain(document: { toJS(options: { maxAliasCount: number }): unknown }): unknown {
  try {
    return document.toJS({ maxAliasCount: LIMITS.swarmFile.aliasesMax });
  } catch (thrown) {
    return refuse(ROOT, "aliases", thrown instanceof Error ? thrown.message : String(thrown));
  }
}

function nameOf(input: unknown): string | undefined {
  const name = typeof input === "object" && input !== null && "name" in input ? input.name : undefined;
  return typeof name === "string" ? name : undefined;
}

/** A key given twice, or text that is no YAML. The excerpt that the parser adds below its sentence might show a secret. */
function syntaxError(code: string, message: string, text: string, at: number): ForeshiftError {
  if (code === "DUPLICATE_KEY") {
    const key = /^["']?([\w.-]+)/.exec(text.slice(at))?.[1] ?? "a field";
    const line = text.slice(0, at).split("\n").length;
    return new ForeshiftError("DUPLICATE_NAME", { field: `${ROOT}, line ${line},`, value: key });
  }
  const [sentence = message] = message.split("\n");
  return new ForeshiftError("INVALID_FIELD", {
    field: ROOT,
    value: "text that is not YAML",
    detail: sentence.replace(/:$/, ""),
  });
}

function assertJson(text: string): void {
  try {
    JSON.parse(text);
  } catch {
    refuse(ROOT, "text that is not JSON", "expected JSON; a YAML file should be named .yaml or .yml");
  }
}

/** A field that does not exist comes first: a slip of the pen there often explains the field that is missing. */
function errorOf(error: z.ZodError, input: unknown): ForeshiftError {
  const issues = error.issues.toSorted(
    (a, b) => Number(b.code === "unrecognized_keys") - Number(a.code === "unrecognized_keys"),
  );
  const [issue] = issues;
  if (issue === undefined) return new ForeshiftError("INVALID_FIELD", { field: ROOT });
  const more = issues.length > 1 ? `; ${issues.length - 1} more of its fields are wrong` : "";
  if (issue.code === "unrecognized_keys") {
    const key = issue.keys[0] ?? "";
    const detail = `there is no such field${suggestion(key, knownFields(SwarmSpec, issue.path))}${more}`;
    return new ForeshiftError("INVALID_FIELD", { field: fieldOf([...issue.path, key]), value: "an unknown field", detail });
  }
  const detail = `${expectation(issue)}${more}`;
  return new ForeshiftError("INVALID_FIELD", { field: fieldOf(issue.path), value: shownAt(input, issue.path), detail });
}

function fieldOf(path: readonly PropertyKey[]): string {
  return path.length === 0 ? ROOT : path.map(String).join(".");
}

/** Zod's sentence, reduced to what was expected: what was got is said beside it. */
function expectation(issue: z.core.$ZodIssue): string {
  const text = issue.message.replace(/^(Invalid (input|option)|Too (small|big)): /, "").replace(/, received .*$/, "");
  if (issue.code === "invalid_format" && issue.format === "ipv4") return "expected an IPv4 address";
  if (issue.code === "invalid_format" && issue.format === "ipv6") return "expected an IPv6 address";
  return text.replace(/^expected (?:string|number|array) to (?:be|have) /, "expected ");
}

/** The fields that the schema has at a path. */
function knownFields(schema: z.ZodType, path: readonly PropertyKey[]): readonly string[] {
  let at: unknown = schema;
  for (const key of path) {
    const object = unwrap(at);
    at = object instanceof z.ZodObject ? object.shape[String(key)] : undefined;
  }
  const object = unwrap(at);
  return object instanceof z.ZodObject ? Object.keys(object.shape) : [];
}

function unwrap(schema: unknown): unknown {
  let at = schema;
  while (at instanceof z.ZodOptional || at instanceof z.ZodDefault || at instanceof z.ZodPrefault) at = at.unwrap();
  return at;
}

function suggestion(key: string, known: readonly string[]): string {
  const [nearest] = known
    .map((name) => ({ name, distance: editDistance(key.toLowerCase(), name.toLowerCase()) }))
    .toSorted((a, b) => a.distance - b.distance);
  if (nearest === undefined) return "";
  const isNear = nearest.distance <= Math.max(2, Math.floor(key.length / 3));
  return isNear ? `, did you mean ${nearest.name}?` : `; here are: ${known.join(", ")}`;
}

/** Levenshtein's distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

function refuse(field: string, value: string, detail: string): never {
  throw new ForeshiftError("INVALID_FIELD", { field, value, detail });
}
