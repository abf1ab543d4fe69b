/** What is seen from outside: numbered packets between server and client, and ESP on the client's link. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { IPSEC_BENCH } from "../../models/limits-ipsec.ts";
import { CLIENT_INNER, CLIENT_LINK, SERVER, VIP } from "./addresses.ts";
import type { HeardNumber } from "./gateway.ts";

/** Packets to the client and back at an even pace, until they are stopped. */
export class Pings {
  readonly #child: ChildProcess;
  readonly #answers: { readonly atMs: number; readonly number: number }[] = [];
  #rest = "";

  constructor() {
    const pace = `${1 / IPSEC_BENCH.packetsPerSecond}`;
    this.#child = spawn("ping", ["-D", "-n", "-I", SERVER, "-i", pace, "-s", "64", CLIENT_INNER], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => this.#read(text));
  }

  /** When the first answer came after a moment, Unix milliseconds; undefined when none comes in time. */
  async answeredAfter(atMs: number, withinMs: number): Promise<number | undefined> {
    for (;;) {
      const found = this.#answers.find((answer) => answer.atMs > atMs);
      if (found !== undefined) return found.atMs;
      if (Date.now() > atMs + withinMs) return undefined;
      await delay(IPSEC_BENCH.pollMs);
    }
  }

  /** Stops them; how many had no answer, but those of the last second, which may have been under way. */
  async stop(): Promise<number> {
    this.#child.kill("SIGINT");
    await once(this.#child, "close");
    const numbers = new Set(this.#answers.map(({ number }) => number));
    const last = Math.max(0, ...numbers) - IPSEC_BENCH.packetsPerSecond;
    const first = Math.min(last, ...numbers);
    let lost = 0;
    for (let number = first; number <= last; number += 1) if (!numbers.has(number)) lost += 1;
    return lost;
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const match = /^\[(\d+\.\d+)\] .*icmp_seq=(\d+) ttl/.exec(line);
      if (match !== null) this.#answers.push({ atMs: Number(match[1]) * 1_000, number: Number(match[2]) });
    }
  }
}

interface SeenSpi {
  last: number;
  readonly seenAtMs: Map<number, number>;
}

/** ESP on the client's link as tcpdump sees it: whether the gateways' numbers grow strictly, and when each number passed. */
export class Wire {
  readonly #child: ChildProcess;
  readonly #fromGateways = new Map<number, SeenSpi>();
  readonly #fromClient = new Map<number, SeenSpi>();
  #rest = "";
  packets = 0;
  notGrowing = 0;
  usedTwice = 0;

  constructor() {
    this.#child = spawn("tcpdump", ["-i", CLIENT_LINK.tap, "-n", "-tt", "-l", "--immediate-mode", "-Z", "root", "esp"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => this.#read(text));
  }

  /** From a packet's passing until its number was heard of, for the numbers that were. */
  lagsMs(heard: readonly HeardNumber[]): readonly number[] {
    return heard.flatMap(({ spi, sequence, atMs }) => {
      const passedAtMs = this.#fromGateways.get(spi)?.seenAtMs.get(sequence);
      return passedAtMs === undefined ? [] : [Math.max(0, atMs - passedAtMs)];
    });
  }

  /** Numbers above `floor` that the client had sent by this SPI before a moment: the endpoint before may have accepted them. */
  sentAbove(spi: number, floor: number, beforeMs: number): number {
    const seen = this.#fromClient.get(spi)?.seenAtMs ?? new Map<number, number>();
    return [...seen].filter(([sequence, atMs]) => sequence > floor && atMs < beforeMs).length;
  }

  stop(): void {
    this.#child.kill("SIGKILL");
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const match = /^(\d+\.\d+) IP (\S+) > \S+: .*ESP\(spi=0x([0-9a-f]+),seq=0x([0-9a-f]+)\)/.exec(line);
      if (match === null) continue;
      const [spi, sequence] = [Number.parseInt(match[3] ?? "", 16), Number.parseInt(match[4] ?? "", 16)];
      const isGateway = match[2] === VIP;
      const direction = isGateway ? this.#fromGateways : this.#fromClient;
      const known = direction.get(spi) ?? { last: 0, seenAtMs: new Map<number, number>() };
      direction.set(spi, known);
      if (isGateway) {
        this.packets += 1;
        if (sequence <= known.last) this.notGrowing += 1;
        if (known.seenAtMs.has(sequence)) this.usedTwice += 1;
      }
      known.seenAtMs.set(sequence, Number(match[1]) * 1_000);
      known.last = Math.max(known.last, sequence);
    }
  }
}
