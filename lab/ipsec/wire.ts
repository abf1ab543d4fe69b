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
  /** Answers that came once more. */
  doubled = 0;

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
      if (line.includes("(DUP!)")) this.doubled += 1;
      else if (match !== null) this.#answers.push({ atMs: Number(match[1]) * 1_000, number: Number(match[2]) });
    }
  }
}

/** One ESP packet on the client's link. */
interface EspFrame {
  readonly atMs: number;
  readonly fromGateway: boolean;
  readonly spi: number;
  readonly sequence: number;
  readonly bytes: Buffer;
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
  readonly #clientFrames: EspFrame[] = [];
  #rest: Buffer = Buffer.alloc(0);
  #isBegun = false;
  packets = 0;
  notGrowing = 0;
  usedTwice = 0;

  constructor() {
    this.#child = spawn("tcpdump", ["-i", CLIENT_LINK.tap, "-n", "-U", "--immediate-mode", "-Z", "root", "-w", "-", "esp"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    this.#child.stdout?.on("data", (bytes: Buffer) => this.#read(bytes));
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

  /** What the client sent last by this SPI before a moment, as whole frames. */
  clientFrames(spi: number, beforeMs: number): readonly Buffer[] {
    const sent = this.#clientFrames.filter((frame) => frame.spi === spi && frame.atMs < beforeMs);
    return sent.slice(-IPSEC_BENCH.framesReplayed).map(({ bytes }) => bytes);
  }

  stop(): void {
    this.#child.kill("SIGKILL");
  }

  #read(bytes: Buffer): void {
    let rest = Buffer.concat([this.#rest, bytes]);
    if (!this.#isBegun) {
      if (rest.length < PCAP.fileHeaderBytes) return void (this.#rest = rest);
      rest = rest.subarray(PCAP.fileHeaderBytes);
      this.#isBegun = true;
    }
    while (rest.length >= PCAP.packetHeaderBytes) {
      const end = PCAP.packetHeaderBytes + rest.readUInt32LE(8);
      if (rest.length < end) break;
      const atMs = rest.readUInt32LE(0) * 1_000 + rest.readUInt32LE(4) / 1_000;
      const frame = espFrame(rest.subarray(PCAP.packetHeaderBytes, end), atMs);
      if (frame !== undefined) this.#see(frame);
      rest = rest.subarray(end);
    }
    this.#rest = Buffer.from(rest);
  }

  #see(frame: EspFrame): void {
    const { spi, sequence, atMs, fromGateway } = frame;
    const direction = fromGateway ? this.#fromGateways : this.#fromClient;
    const known = direction.get(spi) ?? { last: 0, seenAtMs: new Map<number, number>() };
    direction.set(spi, known);
    if (fromGateway) {
      this.packets += 1;
      if (sequence <= known.last) this.notGrowing += 1;
      if (known.seenAtMs.has(sequence)) this.usedTwice += 1;
    } else if (!known.seenAtMs.has(sequence)) {
      this.#clientFrames.push(frame);
      if (this.#clientFrames.length > IPSEC_BENCH.framesKept) this.#clientFrames.shift();
    }
    if (!known.seenAtMs.has(sequence)) known.seenAtMs.set(sequence, atMs);
    known.last = Math.max(known.last, sequence);
  }
}

/** Of tcpdump's format, in this machine's byte order, which is little-endian. */
const PCAP = { fileHeaderBytes: 24, packetHeaderBytes: 16 } as const;
const ETHERNET_BYTES = 14;

function espFrame(bytes: Buffer, atMs: number): EspFrame | undefined {
  const esp = ETHERNET_BYTES + ((bytes[ETHERNET_BYTES] ?? 0) & 0x0f) * 4;
  if (bytes.length < esp + 8) return undefined;
  const source = bytes.subarray(ETHERNET_BYTES + 12, ETHERNET_BYTES + 16).join(".");
  const [spi, sequence] = [bytes.readUInt32BE(esp), bytes.readUInt32BE(esp + 4)];
  return { atMs, fromGateway: source === VIP, spi, sequence, bytes: Buffer.from(bytes) };
}
