/** What a process that comes anew needs to know of the machines that went on without it: one file in each machine's folder. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { writePrivateFile } from "./files.ts";

const MachineRecord = z.object({
  name: z.string(),
  number: z.number().int(),
  zone: z.string(),
  image: z.string(),
  createdAtMs: z.number(),
  /** Of its launch. */
  operation: z.string(),
  process: z.object({
    name: z.string(),
    folder: z.string(),
    sockets: z.string(),
    pid: z.number().int().positive(),
    accelerator: z.enum(["kvm", "tcg"]),
  }),
});
export type MachineRecord = z.infer<typeof MachineRecord>;

const FILE = "machine.json";

/** Written last of all that a launch does: a machine without one is half made. */
export async function writeRecord(folder: string, record: MachineRecord): Promise<void> {
  await writePrivateFile(join(folder, FILE), JSON.stringify(record));
}

/** By the names of the machines' folders; undefined of one that is half made. */
export async function readRecords(folder: string): Promise<ReadonlyMap<string, MachineRecord | undefined>> {
  const names = await readdir(folder).catch((): string[] => []);
  const records = names.map(async (name) => [name, await readRecord(join(folder, name))] as const);
  return new Map(await Promise.all(records));
}

async function readRecord(folder: string): Promise<MachineRecord | undefined> {
  try {
    return MachineRecord.parse(JSON.parse(await readFile(join(folder, FILE), "utf8")));
  } catch {
    return undefined;
  }
}
