/**
 * Looks for secrets wherever one could have leaked to: files, the database, command lines and environments, texts. In every form in which
 * they are written down somewhere.
 */
import { lstat, readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { eventually } from "./eventually.ts";

export interface Secret {
  /** For the report; the secret itself is never printed. */
  readonly name: string;
  /** Bytes of a key, or the text of a token. */
  readonly value: Buffer | string;
}

export interface Leak {
  readonly secret: string;
  readonly place: string;
}

interface Pattern {
  readonly secret: string;
  readonly bytes: Buffer;
}

/** Shorter ones would be found by chance. */
const BYTES_MIN = 12;
/** Of all first two bytes. */
const BEGINNINGS = 0x1_0000;
const FILE_BYTES_MAX = 512 * 1024 * 1024;

export class LeakScan {
  /** By their first two bytes: hundreds of patterns are looked for in one go over the content. */
  readonly #patterns = new Map<number, Pattern[]>();
  readonly #begins = new Uint8Array(BEGINNINGS);

  constructor(secrets: readonly Secret[]) {
    for (const { name, value } of secrets)
      for (const bytes of formsOf(value)) {
        if (bytes.byteLength < BYTES_MIN) throw new Error(`${name} is too short to be looked for`);
        const beginning = bytes.readUInt16BE(0);
        this.#begins[beginning] = 1;
        this.#patterns.set(beginning, [...(this.#patterns.get(beginning) ?? []), { secret: name, bytes }]);
      }
  }

  within(place: string, content: Buffer | string): readonly Leak[] {
    const bytes = typeof content === "string" ? Buffer.from(content) : content;
    const found = new Set<string>();
    let beginning = 0;
    for (let at = 0; at < bytes.byteLength; at += 1) {
      beginning = ((beginning << 8) | (bytes[at] ?? 0)) & (BEGINNINGS - 1);
      if (at === 0 || this.#begins[beginning] === 0) continue;
      for (const pattern of this.#patterns.get(beginning) ?? []) {
        const there = bytes.subarray(at - 1, at - 1 + pattern.bytes.byteLength);
        if (pattern.bytes.equals(there)) found.add(pattern.secret);
      }
    }
    return [...found].map((secret) => ({ secret, place }));
  }

  /** Every file below the folder, sockets and links aside. */
  async files(folder: string): Promise<readonly Leak[]> {
    const leaks: Leak[] = [];
    for (const file of await filesBelow(folder)) {
      // What goes away meanwhile (a write-ahead log that is recycled) is not there to be read.
      const content = await readFile(file).catch(() => Buffer.alloc(0));
      leaks.push(...this.within(file, content));
    }
    return leaks;
  }

  /** Arguments and environments of every process that may be looked at. */
  async processes(): Promise<readonly Leak[]> {
    const leaks: Leak[] = [];
    for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
      for (const what of ["cmdline", "environ"]) {
        const content = await readFile(`/proc/${pid}/${what}`).catch(() => Buffer.alloc(0));
        leaks.push(...this.within(`${what} of process ${pid}`, content));
      }
    }
    return leaks;
  }

  /** Every row of every table, as text. */
  async database(databaseUrl: string): Promise<readonly Leak[]> {
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    try {
      const { rows: tables } = await client.query<{ name: string }>(
        "select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname not in ('pg_catalog', 'information_schema')",
      );
      const leaks: Leak[] = [];
      for (const { name } of tables) {
        const { rows } = await client.query<{ line: string }>(`select t::text as line from ${name} t`);
        leaks.push(...this.within(`table ${name}`, rows.map(({ line }) => line).join("\n")));
      }
      return leaks;
    } finally {
      await client.end();
    }
  }
}

/**
 * Processes that work for this home and would write a core when they crash: those that name it in their arguments, and all that they have
 * started.
 */
export async function coreWriters(home: string): Promise<readonly string[]> {
  const parents = new Map<string, string>();
  const named = new Set<string>();
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name) && name !== String(process.pid))) {
    const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
    parents.set(pid, /^PPid:\s+(\d+)/m.exec(status)?.[1] ?? "");
    if ((await commandOf(pid)).includes(home)) named.add(pid);
  }
  if (named.size === 0) throw new Error(`no process works for ${home}`);
  const belongs = (pid: string): boolean => named.has(pid) || (parents.has(pid) && belongs(parents.get(pid) ?? ""));
  const found: string[] = [];
  for (const pid of [...parents.keys()].filter(belongs)) {
    const limits = await readFile(`/proc/${pid}/limits`, "utf8").catch(() => "");
    if (limits !== "" && !/^Max core file size\s+0\s+0\s/m.test(limits)) found.push(await commandOf(pid));
  }
  return found;
}

/** Kills the one process of this home whose command line matches. Answers its folder, where a core would lie, once it is dead. */
export async function crash(home: string, command: RegExp, signal: "SIGABRT" | "SIGSEGV"): Promise<string> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const commands = await Promise.all(pids.map(async (pid) => ({ pid, line: await commandOf(pid) })));
  const found = commands.filter(({ line }) => line.includes(home) && command.test(line));
  const [victim] = found;
  if (victim === undefined || found.length > 1) throw new Error(`${found.length} processes are ${command}`);
  const folder = await readlink(`/proc/${victim.pid}/cwd`);
  process.kill(Number(victim.pid), signal);
  await eventually("it is dead", async () => (await commandOf(victim.pid)) !== victim.line, 30_000);
  return folder;
}

/** Cores, and reports of crashes, in the folder itself. */
export async function crashFiles(folder: string): Promise<readonly string[]> {
  const names = await readdir(folder);
  return names
    .filter((name) => /^(core(\.\d+)?|report\..+\.json|.+\.heapsnapshot)$/.test(name))
    .map((name) => join(folder, name));
}

/** Empty of one that has ended. */
async function commandOf(pid: string): Promise<string> {
  return (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).replaceAll("\0", " ").trim();
}

/** Files below the folder that somebody else than their owner may read or write, where no folder on the way keeps others out. */
export async function openFiles(folder: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    const { mode } = await lstat(path);
    const closed = (mode & 0o077) === 0;
    if (entry.isDirectory() && !closed) found.push(...(await openFiles(path)));
    if (entry.isFile() && !closed) found.push(path);
  }
  return found;
}

async function filesBelow(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) found.push(...(await filesBelow(path)));
    if (!entry.isFile()) continue;
    const size = await lstat(path).then(
      (stat) => stat.size,
      () => 0,
    );
    if (size <= FILE_BYTES_MAX) found.push(path);
  }
  return found;
}

/** As itself, and as base64, base64url and hexadecimal write it; base64 of a text inside a longer one begins at any of three places. */
function formsOf(value: Buffer | string): Buffer[] {
  const bytes = Buffer.from(value);
  const hex = bytes.toString("hex");
  const forms = [bytes, Buffer.from(hex), Buffer.from(hex.toUpperCase())];
  for (const encoding of ["base64", "base64url"] as const) {
    for (const shift of [0, 1, 2]) {
      const text = Buffer.concat([Buffer.alloc(shift), bytes])
        .toString(encoding)
        .replace(/=+$/, "");
      // The first and last characters also hold bits of the neighbours.
      forms.push(Buffer.from(shift === 0 ? text.slice(0, -1) : text.slice(shift + 1, -1)));
    }
  }
  return forms;
}
