/**
 * IPsec sessions of other endpoints that this one is the shadow of: their states as last heard, how late words of them come, and what a
 * takeover would install. Opened keys are in here and leave it for the kernel alone; clocks are given.
 */
import {
  type OpenedChild,
  parseSaSecret,
  policyLines,
  type SaPair,
  type SaSecret,
  sealContext,
  takenOver,
} from "../../../drivers/tunnel/ipsec-sas.ts";
import { messageOf } from "../../../models/errors.ts";
import { applyCopy, applyDelta, type ChildSa, type IpsecSession, sessionId } from "../../../models/ipsec/state.ts";
import { takeOver } from "../../../models/ipsec/takeover.ts";
import type { HandedOver, NamedDelta, Passed, TakeOverOrder, TakeOverOutcome } from "../../../models/ipsec/wire.ts";
import { IPSEC_LIMITS } from "../../../models/limits-ipsec.ts";

export interface Moment {
  /** Of this machine, and only growing. */
  readonly monotonicMs: number;
  /** By the collector's clock. */
  readonly nowMs: number;
}

interface Held {
  readonly session: IpsecSession;
  /** `monotonicMs` of the newest word. */
  readonly heardAtMs: number;
  /** Age of its counters when it left the endpoint. */
  readonly sentAgeMs: number;
  /** The longest that a word took from the endpoint until it was here. */
  readonly lagMsMax: number;
}

export interface TakeOverWork {
  readonly outcome: TakeOverOutcome;
  readonly pairs: readonly SaPair[];
}

export interface Sealed {
  readonly key: string;
  readonly context: string;
  readonly value: string;
}

export class ShadowedSessions {
  readonly #held = new Map<string, Held>();
  /** By what it was sealed as. */
  readonly #opened = new Map<string, SaSecret>();
  /** What Vault will not ever open. */
  readonly #refused = new Set<string>();
  readonly lagsMs: number[] = [];
  #heard = 0;
  #revision = 0;

  /** Another one once a session came, went, or was told as a whole: then policies and keys may be others. */
  get revision(): number {
    return this.#revision;
  }

  sessions(): readonly IpsecSession[] {
    return [...this.#held.values()].map(({ session }) => session);
  }

  forgetAll(): void {
    this.#revision += 1;
    this.#held.clear();
    this.#opened.clear();
    this.#refused.clear();
  }

  forget(id: string): void {
    this.#revision += 1;
    this.#held.delete(id);
    const wanted = new Set(this.#sealed().map(({ key }) => key));
    for (const keys of [this.#opened, this.#refused]) for (const key of keys.keys()) if (!wanted.has(key)) keys.delete(key);
  }

  copied(copy: IpsecSession, sentAtMs: number, at: Moment): void {
    this.#revision += 1;
    const before = this.#held.get(sessionId(copy));
    this.#keep(applyCopy(before?.session, copy), sentAtMs, at, before);
  }

  /** Of a session that is not known it is nothing; INVALID_FIELD when it takes a counter back. */
  moved({ session: id, ...delta }: NamedDelta, sentAtMs: number, at: Moment): void {
    const before = this.#held.get(id);
    if (before !== undefined) this.#keep(applyDelta(before.session, delta), sentAtMs, at, before);
  }

  /** Keys that are still to be opened. */
  unopened(): readonly Sealed[] {
    return this.#sealed().filter(({ key }) => !this.#opened.has(key) && !this.#refused.has(key));
  }

  refused(key: string): void {
    this.#refused.add(key);
  }

  /** INVALID_FIELD when it is no SA's. */
  opened(key: string, text: string): void {
    this.#opened.set(key, parseSaSecret(text));
  }

  /** One of each kind of SA that a takeover would install. */
  kinds(): readonly SaSecret[] {
    const secrets = [...this.#opened.values()];
    return [...new Map(secrets.map((secret) => [kindOf(secret), secret])).values()];
  }

  /** Policies of all sessions; without SAs under them they let nothing pass. */
  policies(): readonly string[] {
    return [...new Set(this.sessions().flatMap((session) => session.children.flatMap((child) => policyLines(session, child))))];
  }

  /**
   * What an order comes to: for each child the pair of SAs to install, or why there is none. To be called once nothing of the endpoint
   * before passes any more; `handedOver`: what that one said last, if it could.
   */
  takeOver({ session: id, passed }: TakeOverOrder["sessions"][number], at: Moment, handedOver?: HandedOver): TakeOverWork {
    const held = this.#held.get(id);
    const nothing = { session: id, goneOn: 0, outboundJump: 0, inboundJump: 0 };
    if (held === undefined)
      return { outcome: { ...nothing, refusals: ["not-shadowed: this endpoint holds no copy of it"] }, pairs: [] };
    const { session } = held;
    const last = new Map(handedOver?.counters.map(({ spi, sequence }) => [spi, sequence]));
    const children = session.children.map((child) => lastOf(child, last));
    const ageMs = handedOver === undefined || children.includes(undefined) ? ageOf(held, at) : handedOver.ageMs;
    const pairs: SaPair[] = [];
    const refusals: string[] = [];
    const jumps = { outboundJump: 0, inboundJump: 0 };
    for (const [n, known] of session.children.entries()) {
      const child = children[n] ?? known;
      const opened = this.#openedOf(session, child);
      if (opened === undefined) {
        refusals.push("keys-not-opened: Vault has not given them yet");
        continue;
      }
      const plan = planOf(child, passed, { ageMs, nowMs: at.nowMs });
      if (plan.kind === "new-handshake") {
        refusals.push(`${plan.reason}: ${plan.detail}${plan.reason === "stale" ? whyOld(held, at) : ""}`);
        continue;
      }
      try {
        pairs.push(takenOver(session, child, opened, plan, at.nowMs));
        jumps.outboundJump = Math.max(jumps.outboundJump, plan.outboundJump);
        jumps.inboundJump = Math.max(jumps.inboundJump, plan.inboundJump);
      } catch (thrown) {
        refusals.push(`not-to-be-installed: ${messageOf(thrown)}`);
      }
    }
    return { outcome: { session: id, goneOn: pairs.length, ...jumps, ageMs, refusals }, pairs };
  }

  #keep(session: IpsecSession, sentAtMs: number, { monotonicMs, nowMs }: Moment, before: Held | undefined): void {
    // An older word says nothing.
    if (session === before?.session) return;
    const lagMs = Math.max(0, nowMs - sentAtMs);
    const sentAgeMs = Math.max(0, sentAtMs - session.updatedAtMs);
    const id = sessionId(session);
    // What the collector kept until somebody became the session's shadow says nothing of how long words take.
    if (before === undefined) this.#held.set(id, { session, heardAtMs: monotonicMs - lagMs, sentAgeMs, lagMsMax: 0 });
    else {
      this.lagsMs[this.#heard % IPSEC_LIMITS.lagsKept] = lagMs;
      this.#heard += 1;
      this.#held.set(id, { session, heardAtMs: monotonicMs, sentAgeMs, lagMsMax: Math.max(before.lagMsMax, lagMs) });
    }
  }

  #sealed(): readonly Sealed[] {
    return this.sessions().flatMap((session) =>
      session.children.flatMap((child) => [sealedOf(session, child, "out"), sealedOf(session, child, "in")]),
    );
  }

  #openedOf(session: IpsecSession, child: ChildSa): OpenedChild | undefined {
    const [outbound, inbound] = [
      this.#opened.get(sealedOf(session, child, "out").key),
      this.#opened.get(sealedOf(session, child, "in").key),
    ];
    return outbound === undefined || inbound === undefined ? undefined : { outbound, inbound };
  }
}

/** What of an SA the kernel has to have code for. */
export function kindOf({ algorithms }: SaSecret): string {
  return algorithms.map(({ kind, name, key, bits }) => `${kind} ${name} ${key.length} ${bits ?? ""}`).join();
}

function sealedOf(session: IpsecSession, child: ChildSa, direction: "in" | "out"): Sealed {
  const { spi, keys } = direction === "out" ? child.outbound : child.inbound;
  const context = sealContext(session.endpoint, spi, direction);
  return { key: `${context} ${keys}`, context, value: keys };
}

/**
 * Of the counters: how old they were when the word left, the longest that one took, and the time since it came; or what the two clocks say
 * where that is more. What clocks are apart by, and the way from the kernel to its agent, are allowed for.
 */
function ageOf({ session, heardAtMs, lagMsMax, sentAgeMs }: Held, { monotonicMs, nowMs }: Moment): number {
  const byWords = sentAgeMs + lagMsMax + Math.max(0, monotonicMs - heardAtMs);
  return Math.max(byWords, nowMs - session.updatedAtMs) + IPSEC_LIMITS.lagAllowedMs;
}

/** With the last numbers that its endpoint used; undefined when it did not say both. What was heard before may be no higher, and is not gone back on. */
function lastOf(child: ChildSa, last: ReadonlyMap<number, number>): ChildSa | undefined {
  const [sent, received] = [last.get(child.outbound.spi), last.get(child.inbound.spi)];
  if (sent === undefined || received === undefined) return undefined;
  return {
    ...child,
    outbound: { ...child.outbound, sequence: Math.max(sent, child.outbound.sequence) },
    inbound: { ...child.inbound, sequence: Math.max(received, child.inbound.sequence) },
  };
}

/** For whoever has to find out what was late. */
function whyOld({ heardAtMs, lagMsMax, sentAgeMs }: Held, { monotonicMs }: Moment): string {
  const [read, lag, heard] = [sentAgeMs, lagMsMax, monotonicMs - heardAtMs].map((ms) => `${Math.round(ms)} ms`);
  return `: read ${read} before their word left, a word took ${lag} at most, the last came ${heard} ago`;
}

function planOf(child: ChildSa, passed: readonly Passed[], moment: { readonly ageMs: number; readonly nowMs: number }) {
  const known = passed.find(({ spi }) => spi === child.inbound.spi);
  const passedAtMost = known === undefined ? undefined : "atMost" in known ? known.atMost : child.inbound.sequence;
  const { esn, outbound, inbound, lifetime, bytes, packets } = child;
  return takeOver(
    {
      esn,
      outbound: { sequence: outbound.sequence },
      inbound: { sequence: inbound.sequence, replayWindow: inbound.replayWindow, passedAtMost },
      lifetime,
      bytes,
      packets,
    },
    { outboundPps: outbound.peakPps, inboundPps: inbound.peakPps },
    moment,
  );
}
