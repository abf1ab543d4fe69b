/** Files that are whole after any crash: written beside, flushed, renamed, and the folder flushed. */
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import type { z } from "zod";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { parseInput } from "../../models/parse.ts";

export async function writeWhole(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const file = await open(temporary, "w", 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    const folder = await open(dirname(path), "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch (thrown) {
    throw new ForeshiftError("DISK", { value: path, detail: messageOf(thrown) }, { cause: thrown });
  }
}

/** Undefined when there is no such file. */
export async function readWhole(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (thrown) {
    if (thrown instanceof Error && "code" in thrown && thrown.code === "ENOENT") return undefined;
    throw new ForeshiftError("DISK", { value: path, detail: messageOf(thrown) }, { cause: thrown });
  }
}

export async function readJson<T>(path: string, schema: z.ZodType<T>): Promise<T | undefined> {
  const text = await readWhole(path);
  if (text === undefined) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new ForeshiftError("INVALID_FIELD", { field: path, value: "a file", detail: "it is not JSON" });
  }
  return parseInput(schema, json, path);
}

/** Writes what `snapshot` gives, one write at a time; calls while one is under way share the next. */
export class KeptFile {
  readonly #path: string;
  readonly #snapshot: () => unknown;
  #writing: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(path: string, snapshot: () => unknown) {
    this.#path = path;
    this.#snapshot = snapshot;
  }

  /** Resolves once everything that holds now is on disk. */
  save(): Promise<void> {
    if (this.#writing === undefined) return this.#begin();
    this.#next ??= this.#writing
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        return this.#begin();
      });
    return this.#next;
  }

  #begin(): Promise<void> {
    const writing = writeWhole(this.#path, JSON.stringify(this.#snapshot())).finally(() => {
      if (this.#writing === writing) this.#writing = undefined;
    });
    this.#writing = writing;
    return writing;
  }
}
