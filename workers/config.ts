/**
 * Configuration of a worker process: a JSON file that only its owner may read, checked once at start.
 */
import { readFile, stat } from "node:fs/promises";
import type { z } from "zod";
import { ForeshiftError, fileTrouble } from "../models/errors.ts";
import { parseInput } from "../models/parse.ts";

/** The parsed file; INVALID_FIELD when it is missing, readable by others, not JSON, or has a wrong field. */
export async function readConfig<T>(path: string | undefined, schema: z.ZodType<T>): Promise<T> {
  if (path === undefined) throw invalid("nothing", "give the path of the configuration file as the only argument");
  let text: string;
  try {
    const { mode } = await stat(path);
    if ((mode & 0o077) !== 0) throw new Error("others may read it; make it mode 0600");
    text = await readFile(path, "utf8");
  } catch (thrown) {
    throw invalid(path, fileTrouble(thrown));
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // The parser's message would quote the file, which holds passwords.
    throw invalid(path, "it is not JSON");
  }
  return parseInput(schema, json, "configuration");
}

function invalid(value: string, detail: string): ForeshiftError {
  return new ForeshiftError("INVALID_FIELD", { field: "configuration file", value, detail });
}
