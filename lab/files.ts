/**
 * Files only their owner may read, written so that a reader sees the old content or the new one and nothing between.
 */
import { mkdir, open, rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { MACHINE_LIMITS } from "../models/limits-machines.ts";

export async function writePrivateFile(path: string, content: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, content, { mode: 0o600 });
  await rename(temporary, path);
}

/** The end of a log, no longer than is worth reading at once. */
export async function readTail(path: string): Promise<string> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    const length = Math.min(size, MACHINE_LIMITS.consoleBytesMax);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.toString("utf8", 0, bytesRead);
  } finally {
    await file.close();
  }
}
