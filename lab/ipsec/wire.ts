/** What is seen from outside: numbered packets between server and client, and ESP on the client's link. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { IPSEC_BENCH } from "../../models/limits-ipsec.ts";
import { CLIENT_LINK, type Client, SERVER, VIP } from "./addresses.ts";
import type { HeardNumber } from "./gateway.ts";

/** Packets to a client and back at an even pace, until they are stopped. */
export class Pings {
  readonly #child: ChildProcess;
  readonly #pps: number;
  readonly #answers: { readonly atMs: number; readonly number: number }[] = [];
  #rest = "";
  /** Answers that came once more. */
  doubled = 0;

  constructor({ inner }: Client, pps: number = IPSEC_BENCH.packetsPerSecond) {
    this.#pps = pps;
    this.#child = spawn("ping", ["-D", "-n", "-I", SERVER, "-i", `${1 / pps}`, "-s", "64", inner], {
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
    const last = Math.max(0, ...numbers) - this.#pps;
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

/** One ESP packet on the clients' link. */
interface EspFrame {
  readonly atMs: number;
  readonly fromGateway: boolean;
  readonly isInUdp: boolean;
  readonly spi: number;
  /** As it stands in the packet: the lower half of an extended one. */
  readonly sequence: number;
  readonly bytes: Buffer;
}

interface SeenSpi {
  last: number;
  /** By whole numbers. */
  readonly seenAtMs: Map<number, number>;
}

/** What was seen so far of the gateways' packets. */
export interface WireCounts {
  readonly packets: number;
  readonly inUdp: number;
  /** Extended numbers that came into their second half. */
  readonly beyondWord: number;
  readonly notGrowing: number;
  readonly usedTwice: number;
}

const WORD = 2 ** 32;

/** ESP on the clients' link as tcpdump sees it: whether the gateways' numbers grow strictly, and when each number passed. */
export class Wire {
  readonly #child: ChildProcess;
  readonly #fromGateways = new Map<number, SeenSpi>();
  readonly #fromClients = new Map<number, SeenSpi>();
  readonly #clientFrames: EspFrame[] = [];
  readonly #counts = { packets: 0, inUdp: 0, beyondWord: 0, notGrowing: 0, usedTwice: 0 };
  #rest: Buffer = Buffer.alloc(0);
  #isBegun = false;

  constructor() {
    const filter = `esp or (udp port ${NATT_PORT})`;
    this.#child = spawn("tcpdump", ["-i", CLIENT_LINK.tap, "-n", "-U", "--immediate-mode", "-Z", "root", "-w", "-", filter], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    this.#child.stdout?.on("data", (bytes: Buffer) => this.#read(bytes));
  }

  get counts(): WireCounts {
    return { ...this.#counts };
  }

  /** From a packet's passing until its number was heard of, for the numbers that were. */
  lagsMs(heard: readonly HeardNumber[]): readonly number[] {
    return heard.flatMap(({ spi, sequence, atMs }) => {
      const passedAtMs = this.#fromGateways.get(spi)?.seenAtMs.get(sequence);
      return passedAtMs === undefined ? [] : [Math.max(0, atMs - passedAtMs)];
    });
  }

  /** From each packet's passing, of those that passed within a time, until its number or a later one was heard of; those that were. */
  coveredMs(heard: readonly HeardNumber[], fromMs: number, toMs: number): readonly number[] {
    const bySpi = Map.groupBy(heard, ({ spi }) => spi);
    return [...bySpi].flatMap(([spi, words]) => {
      const passed = [...(this.#fromGateways.get(spi)?.seenAtMs ?? [])].filter(([, atMs]) => atMs >= fromMs && atMs < toMs);
      const lags: number[] = [];
      let next = 0;
      for (const [sequence, atMs] of passed.sort(([a], [b]) => a - b)) {
        while (next < words.length && (words[next]?.sequence ?? 0) < sequence) next += 1;
        const word = words[next];
        if (word !== undefined) lags.push(Math.max(0, word.atMs - atMs));
      }
      return lags;
    });
  }

  /** Numbers above `floor` that the client had sent by this SPI before a moment: the endpoint before may have accepted them. */
  sentAbove(spi: number, floor: number, beforeMs: number): number {
    const seen = this.#fromClients.get(spi)?.seenAtMs ?? new Map<number, number>();
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
    const { spi, atMs, fromGateway } = frame;
    const direction = fromGateway ? this.#fromGateways : this.#fromClients;
    const known = direction.get(spi) ?? { last: frame.sequence, seenAtMs: new Map<number, number>() };
    const whole = wholeNumber(frame.sequence, known.last);
    const isFirst = !direction.has(spi);
    direction.set(spi, known);
    const isNew = !known.seenAtMs.has(whole);
    if (fromGateway) {
      const counts = this.#counts;
      counts.packets += 1;
      if (frame.isInUdp) counts.inUdp += 1;
      if (whole >= WORD) counts.beyondWord += 1;
      if (whole <= known.last && !isFirst) counts.notGrowing += 1;
      if (!isNew) counts.usedTwice += 1;
    } else if (isNew) {
      this.#clientFrames.push(frame);
      if (this.#clientFrames.length > IPSEC_BENCH.framesKept) this.#clientFrames.shift();
    }
    if (isNew) known.seenAtMs.set(whole, atMs);
    known.last = Math.max(known.last, whole);
  }
}

/** The whole number nearest to the last one that has this lower half. */
function wholeNumber(low: number, last: number): number {
  const ahead = (((low - last) % WORD) + WORD) % WORD;
  return last + (ahead >= WORD / 2 ? ahead - WORD : ahead);
}

/** Of tcpdump's format, in this machine's byte order, which is little-endian. */
const PCAP = { fileHeaderBytes: 24, packetHeaderBytes: 16 } as const;
const ETHERNET_BYTES = 14;
const UDP_BYTES = 8;
const UDP_PROTOCOL = 17;
const NATT_PORT = 4_500;

/** Undefined for what is not ESP: IKE on port 4500 begins with a word of zero, a keepalive is one byte (RFC 3948). */
function espFrame(bytes: Buffer, atMs: number): EspFrame | undefined {
  const isInUdp = bytes[ETHERNET_BYTES + 9] === UDP_PROTOCOL;
  const esp = ETHERNET_BYTES + ((bytes[ETHERNET_BYTES] ?? 0) & 0x0f) * 4 + (isInUdp ? UDP_BYTES : 0);
  if (bytes.length < esp + 8) return undefined;
  const source = bytes.subarray(ETHERNET_BYTES + 12, ETHERNET_BYTES + 16).join(".");
  const [spi, sequence] = [bytes.readUInt32BE(esp), bytes.readUInt32BE(esp + 4)];
  if (spi === 0) return undefined;
  return { atMs, fromGateway: source === VIP, isInUdp, spi, sequence, bytes: Buffer.from(bytes) };
}
