/**
 * Runs nft, in this network namespace or another, and keeps one table as it must be: only differences are sent, each step as one
 * atomic transaction. A table that is right already is not touched.
 */
import { spawn } from "node:child_process";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import {
  elementCommands,
  type Held,
  heldAfter,
  NOTHING_HELD,
  parseElements,
  parseTable,
  transaction,
} from "./nftables-diff.ts";
import type { Ruleset } from "./nftables-ruleset.ts";

export interface CommandResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Commands in one network namespace. `netns` is a path such as /run/netns/router; undefined is the caller's own. */
export class NamespaceCommands {
  readonly #prefix: readonly string[];

  constructor(netns: string | undefined) {
    this.#prefix = netns === undefined ? [] : ["nsenter", `--net=${netns}`];
  }

  /** Ends with whatever the command ends with; COMMAND_FAILED when it runs past the limit, MISSING_TOOL when it is not there. */
  run(command: string, args: readonly string[], input = ""): Promise<CommandResult> {
    const [file = command, ...rest] = [...this.#prefix, command, ...args];
    return new Promise((resolve, reject) => {
      const child = spawn(file, rest, { stdio: ["pipe", "pipe", "pipe"] });
      const stdout: Buffer[] = [];
      const stderr: Buffer[] = [];
      let bytes = 0;
      const limit = setTimeout(() => {
        child.kill("SIGKILL");
        reject(
          new ForeshiftError("COMMAND_FAILED", { field: command, detail: `no end after ${LIMITS.reflex.nftTimeoutMs} ms` }),
        );
      }, LIMITS.reflex.nftTimeoutMs);
      child.stdout.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > LIMITS.reflex.nftOutputBytesMax) child.kill("SIGKILL");
        else stdout.push(chunk);
      });
      child.stderr.on("data", (chunk: Buffer) => {
        if (stderr.length < 64) stderr.push(chunk);
      });
      child.once("error", (error: NodeJS.ErrnoException) => {
        clearTimeout(limit);
        const detail = { field: file, value: file, detail: messageOf(error) };
        reject(new ForeshiftError(error.code === "ENOENT" ? "MISSING_TOOL" : "COMMAND_FAILED", detail, { cause: error }));
      });
      child.once("close", (status) => {
        clearTimeout(limit);
        resolve({ status: status ?? 1, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() });
      });
      // A command that ends early closes its input; its status says what happened.
      child.stdin.on("error", () => undefined);
      child.stdin.end(input);
    });
  }

  async output(command: string, args: readonly string[], input = ""): Promise<string> {
    const result = await this.run(command, args, input);
    if (result.status !== 0) throw commandError(command, result.stderr);
    return result.stdout;
  }

  /** Index of each network device by name. */
  async devices(): Promise<ReadonlyMap<string, number>> {
    const links = IpLinks.parse(JSON.parse(await this.output("ip", ["-j", "link", "show"])));
    return new Map(links.map((link) => [link.ifname, link.ifindex]));
  }

  /** Addresses that the namespace itself holds, with the device. */
  async addresses(): Promise<readonly { readonly device: string; readonly address: string }[]> {
    const links = IpAddresses.parse(JSON.parse(await this.output("ip", ["-j", "addr", "show"])));
    return links.flatMap((link) => link.addr_info.map((info) => ({ device: link.ifname, address: info.local })));
  }
}

const IpLinks = z.array(z.looseObject({ ifname: z.string(), ifindex: z.number() }));
const IpAddresses = z.array(
  z.looseObject({ ifname: z.string(), addr_info: z.array(z.looseObject({ local: z.string().default("") })).default([]) }),
);

/** One `netdev foreshift` table. Calls wait for one another; each sees what the one before has done. */
export class NftTable {
  readonly #commands: NamespaceCommands;
  readonly #table: string;
  readonly #declaredNames: readonly string[];
  #held: Held | undefined;
  #last: Promise<unknown> = Promise.resolve();
  /** Transactions committed, for tests and metrics. */
  transactions = 0;

  constructor(commands: NamespaceCommands, table: string, declaredNames: readonly string[]) {
    this.#commands = commands;
    this.#table = table;
    this.#declaredNames = declaredNames;
  }

  /** Owner of the table in the kernel; undefined when there is no table or it says nothing of an owner. */
  owner(): Promise<string | undefined> {
    return this.#inTurn(async () => (await this.#read()).owner);
  }

  /** Makes the kernel's table what `ruleset` says. Resolves with whether anything had to change. */
  apply(ruleset: Ruleset): Promise<boolean> {
    return this.#inTurn(() =>
      this.#attempt(async (fresh) => {
        const held = fresh || this.#held === undefined ? await this.#read() : this.#held;
        const text = transaction(held, ruleset);
        if (text !== "") await this.#commit(text);
        this.#held = heldAfter(ruleset);
        return text !== "";
      }),
    );
  }

  /** Reads the table again before the next change, because something outside may have changed it. */
  distrust(): void {
    this.#held = undefined;
  }

  /**
   * Sets elements of a map that the packet path writes too: what is there is looked up, and replaced in one transaction (or left,
   * with `onlyMissing`).
   */
  setLearned(map: string, wanted: ReadonlyMap<string, number>, onlyMissing = false): Promise<void> {
    if (wanted.size === 0) return Promise.resolve();
    return this.#inTurn(() =>
      this.#attempt(async () => {
        const present = await this.#elements(map);
        const stale: string[] = [];
        const missing: string[] = [];
        for (const [key, mark] of wanted) {
          const value = present.get(key);
          if (value === `${mark}` || (onlyMissing && value !== undefined)) continue;
          if (value !== undefined) stale.push(key);
          missing.push(`${key} : ${mark}`);
        }
        const lines = [
          ...elementCommands("delete", this.#table, map, stale),
          ...elementCommands("add", this.#table, map, missing),
        ];
        if (lines.length > 0) await this.#commit(`${lines.join("\n")}\n`);
      }),
    );
  }

  /** Removes what was learned of members that are gone. */
  forgetLearned(maps: readonly string[], marks: ReadonlySet<number>): Promise<void> {
    if (marks.size === 0) return Promise.resolve();
    return this.#inTurn(() =>
      this.#attempt(async () => {
        const lines: string[] = [];
        for (const map of maps) {
          const stale = [...(await this.#elements(map))].filter(([, mark]) => marks.has(Number(mark))).map(([key]) => key);
          lines.push(...elementCommands("delete", this.#table, map, stale));
        }
        if (lines.length > 0) await this.#commit(`${lines.join("\n")}\n`);
      }),
    );
  }

  /** Elements of one map, as text. */
  elements(map: string): Promise<ReadonlyMap<string, string>> {
    return this.#inTurn(() => this.#elements(map));
  }

  /** Packets by counter name. */
  async counters(): Promise<ReadonlyMap<string, number>> {
    const text = await this.#commands.output("nft", ["-j", "list", "counters", "table", ...this.#table.split(" ")]);
    const answer = NftCounters.parse(JSON.parse(text));
    return new Map(answer.nftables.flatMap(({ counter }) => (counter === undefined ? [] : [[counter.name, counter.packets]])));
  }

  /** Text of all other tables of the family, without elements: to see who else handles an address. */
  async otherTables(): Promise<ReadonlyMap<string, string>> {
    const text = await this.#commands.output("nft", ["-t", "list", "ruleset"]);
    const tables = [...text.matchAll(/^table (\S+ \S+) \{\n([\s\S]*?)^\}/gm)].map(
      ([, name = "", body = ""]) => [name, body] as const,
    );
    return new Map(tables.filter(([name]) => name !== this.#table));
  }

  async remove(): Promise<void> {
    await this.#inTurn(async () => {
      await this.#commands.output("nft", ["-f", "-"], `add table ${this.#table}\ndelete table ${this.#table}\n`);
      this.#held = NOTHING_HELD;
    });
  }

  async #read(): Promise<Held> {
    const table = await this.#commands.run("nft", ["-t", "list", "table", ...this.#table.split(" ")]);
    if (table.status !== 0) {
      if (table.stderr.includes("No such file or directory")) return NOTHING_HELD;
      throw commandError("nft", table.stderr);
    }
    const present = this.#declaredNames.filter((name) => table.stdout.includes(`\tmap ${name} {`));
    const elements = await Promise.all(present.map(async (name) => [name, await this.#elements(name)] as const));
    return parseTable(table.stdout, new Map(elements));
  }

  async #elements(map: string): Promise<Map<string, string>> {
    return parseElements(await this.#commands.output("nft", ["-j", "list", "map", ...this.#table.split(" "), map]));
  }

  async #commit(text: string): Promise<void> {
    await this.#commands.output("nft", ["-f", "-"], text);
    this.transactions += 1;
  }

  async #attempt<T>(change: (fresh: boolean) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await change(attempt > 1);
      } catch (thrown) {
        this.#held = undefined;
        const retryable = thrown instanceof ForeshiftError && thrown.code === "COMMAND_FAILED";
        if (!retryable || attempt >= LIMITS.reflex.nftAttemptsMax) throw thrown;
      }
    }
  }

  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(task, task);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}

const NftCounters = z.looseObject({
  nftables: z.array(z.looseObject({ counter: z.looseObject({ name: z.string(), packets: z.number() }).optional() })),
});

function commandError(command: string, stderr: string): ForeshiftError {
  const detail = stderr.trim().split("\n").slice(0, 2).join("; ").slice(0, 400);
  if (/not permitted|permission denied/i.test(stderr))
    return new ForeshiftError("NOT_PERMITTED", { detail: `run ${command}: ${detail}` });
  return new ForeshiftError("COMMAND_FAILED", { field: command, detail });
}
