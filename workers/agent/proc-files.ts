/**
 * Small files of the kernel's, read at once: they lie in memory, and a turn of the thread pool for each would cost more than the reading.
 */
import { readdirSync, readFileSync } from "node:fs";

/** Undefined where it cannot be read. */
export function fileText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** The number a file holds, also in hexadecimal with 0x; undefined where there is none. */
export function fileNumber(path: string): number | undefined {
  const text = fileText(path)?.trim();
  const value = text === undefined || text === "" ? Number.NaN : Number(text);
  return Number.isFinite(value) ? value : undefined;
}

/** Names in a folder; none where it cannot be read. */
export function namesIn(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
