/**
 * What is lost between router and endpoint, told from the traffic itself: the router counts the packets that it sends this way, the
 * tunnel's device those that come. A few packets of a thousand show within seconds, where probes would need minutes.
 * (RFC 8321 measures by counting on both sides as well, there by marked blocks; here a lasting shortfall stands in for the marks.)
 */
import { fileText } from "./proc-files.ts";

/** A count of packets that only grows, and when it was read. Unix milliseconds; a constant difference of the clocks does no harm. */
export interface Count {
  readonly packets: number;
  readonly atMs: number;
}

/** Own counts are kept this long; an older word of the router cannot be placed any more. */
const OWN_KEPT_MS = 5_000;
/**
 * Two counts are never of one moment, so the shortfall swings by what is under way. Only what exceeds all of this past is believed to be
 * lost: after a few readings chance has shown what it can do.
 */
const SHORTFALL_KEPT_MS = 60_000;
/** Fewer packets than this between two words of the router say nothing of a share. */
const PACKETS_MIN = 50;

export class CarriedLoss {
  #own: Count[] = [];
  #shortfalls: { readonly atMs: number; readonly packets: number }[] = [];
  #sent: Count | undefined;
  #waiting: Count | undefined;
  #lost = 0;
  #of = 0;

  /** Packets that the tunnel's device has taken from this side so far; undefined while there is no device. */
  took(count: Count | undefined): void {
    if (count === undefined || count.packets < (this.#own.at(-1)?.packets ?? 0)) this.#beginAnew();
    if (count === undefined) return;
    this.#own = [...this.#own.filter(({ atMs }) => atMs > count.atMs - OWN_KEPT_MS), count];
    this.#place();
  }

  /** Packets that the router has sent this way so far. A word that was heard before is passed over. */
  sent(count: Count): void {
    const last = this.#waiting ?? this.#sent;
    if (last !== undefined && count.atMs <= last.atMs) return;
    this.#waiting = count;
    this.#place();
  }

  /** The share that was lost of what was sent since the call before; undefined while too little was sent to tell. */
  share(): number | undefined {
    if (this.#of < PACKETS_MIN) return undefined;
    const share = Math.min(1, this.#lost / this.#of);
    this.#lost = 0;
    this.#of = 0;
    return share;
  }

  /** Compares the router's word with the own count of the same moment, once that is known. */
  #place(): void {
    const sent = this.#waiting;
    if (sent === undefined || (this.#own.at(-1)?.atMs ?? 0) < sent.atMs) return;
    this.#waiting = undefined;
    const took = countAt(this.#own, sent.atMs);
    const before = this.#sent;
    this.#sent = sent;
    if (took === undefined || (before !== undefined && sent.packets < before.packets)) return this.#beginAnew();
    const shortfall = sent.packets - took;
    const past = this.#shortfalls.filter(({ atMs }) => atMs > sent.atMs - SHORTFALL_KEPT_MS);
    if (past.length > 0 && before !== undefined) {
      this.#lost += Math.max(0, shortfall - Math.max(...past.map(({ packets }) => packets)));
      this.#of += sent.packets - before.packets;
    }
    this.#shortfalls = [...past, { atMs: sent.atMs, packets: shortfall }];
  }

  /** A device, or a router, that counts from zero again. */
  #beginAnew(): void {
    this.#own = [];
    this.#shortfalls = [];
    this.#sent = undefined;
    this.#lost = 0;
    this.#of = 0;
  }
}

/** Between two counts the packets came evenly. Undefined before the first. */
function countAt(counts: readonly Count[], atMs: number): number | undefined {
  const later = counts.findIndex((count) => count.atMs >= atMs);
  const [before, after] = [counts[later - 1], counts[later]];
  if (after === undefined) return undefined;
  if (before === undefined) return after.atMs === atMs ? after.packets : undefined;
  const share = (atMs - before.atMs) / (after.atMs - before.atMs);
  return before.packets + (after.packets - before.packets) * share;
}

/** Column of /proc/net/dev: packets that the kernel gave to the device, which for a tunnel is what goes to its clients. */
const SENT_PACKETS = 9;

/** Undefined when there is no such device. */
export function packetsTaken(device: string): number | undefined {
  const line = (fileText("/proc/self/net/dev") ?? "").split("\n").find((one) => one.trim().startsWith(`${device}:`));
  const columns = line
    ?.slice(line.indexOf(":") + 1)
    .trim()
    .split(/\s+/);
  const packets = Number(columns?.[SENT_PACKETS]);
  return Number.isFinite(packets) ? packets : undefined;
}
