/**
 * How IPsec sessions change hands on this endpoint: it goes on with those that it shadows, hands its own over with their last numbers, and takes
 * out what others go on with. What is asked again by one operation is answered as before.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import type { SaPair } from "../../../drivers/tunnel/ipsec-sas.ts";
import type { IkeDaemon } from "../../../drivers/tunnel/strongswan.ts";
import type { IpsecKernel } from "../../../drivers/tunnel/xfrm-kernel.ts";
import { addStateLine, deleteStateLine, type XfrmState } from "../../../drivers/tunnel/xfrm-state.ts";
import { messageOf } from "../../../models/errors.ts";
import type { HandedOver, RetireOrder, TakeOverOrder, TakeOverOutcome } from "../../../models/ipsec/wire.ts";
import { IPSEC_LIMITS } from "../../../models/limits-ipsec.ts";
import type { OwnSessions } from "./own-sessions.ts";
import type { Moment, ShadowedSessions, TakeOverWork } from "./shadowed.ts";

export interface HandoverParts {
  readonly kernel: IpsecKernel;
  readonly ike: IkeDaemon;
  readonly own: OwnSessions;
  readonly shadowed: ShadowedSessions;
  readonly log: Logger;
  readonly moment: () => Moment;
  /** SAs are others than they were: the kernel is to be read. */
  readonly readAgainSoon: () => void;
  readonly signal: AbortSignal;
}

export class Handovers {
  readonly #parts: HandoverParts;
  readonly #log: Logger;
  readonly #outcomes = new Map<string, Promise<readonly TakeOverOutcome[]>>();
  readonly #handedOver = new Map<string, Promise<HandedOver>>();
  /** SAs that were gone on with, until their clients have new ones, with this endpoint's address in them. */
  readonly #takenOver = new Map<string, string>();

  constructor(parts: HandoverParts) {
    this.#parts = parts;
    this.#log = parts.log;
  }

  /** Addresses of this endpoint in SAs that were gone on with. */
  localHosts(): Iterable<string> {
    return this.#takenOver.values();
  }

  /** Asked again with one operation it answers what it did. Resolves once the SAs are in the kernel; the clients' handshakes follow. */
  takeOver(order: TakeOverOrder): Promise<readonly TakeOverOutcome[]> {
    return onceFor(this.#outcomes, order.operation, () => this.#takeOver(order));
  }

  /** Of an operation before; none when a process before this one carried it out. */
  async outcomesOf(operation: string): Promise<readonly TakeOverOutcome[]> {
    return (await this.#outcomes.get(operation)) ?? [];
  }

  /** Takes SAs out that another endpoint goes on with. Answers how many were here. */
  async retire({ spis }: Pick<RetireOrder, "spis">): Promise<number> {
    const all = pairsOf(await this.#parts.kernel.states(), spis);
    await this.#parts.kernel.batch(all.map(deleteStateLine), { anyway: true });
    this.#parts.readAgainSoon();
    return all.length;
  }

  /**
   * The same for another endpoint that is about to go on: answers the last numbers, once the SAs are out. COMMAND_FAILED when they could
   * not be taken out; then nobody may rely on their numbers.
   */
  handOver(order: RetireOrder): Promise<HandedOver> {
    return onceFor(this.#handedOver, order.operation, () => this.#handOver(order));
  }

  async #handOver({ spis }: RetireOrder): Promise<HandedOver> {
    const askedAtMs = performance.now();
    const all = pairsOf(await this.#parts.kernel.states(), spis);
    // That they end is not to be told: whoever goes on with them would forget them.
    this.#parts.own.handedOver(all);
    await this.#parts.kernel.batch(all.map(deleteStateLine));
    const ageMs = performance.now() - askedAtMs;
    this.#parts.readAgainSoon();
    this.#log.info({ event: "ipsec-handed-over", sas: all.length, tookMs: Math.round(ageMs) });
    const lastOf = ({ inboundSequence, outboundSequence }: XfrmState) => Math.max(inboundSequence, outboundSequence);
    return { ageMs, counters: all.map((state) => ({ spi: state.spi, sequence: lastOf(state) })) };
  }

  async #takeOver({ from, sessions, handedOver }: TakeOverOrder): Promise<readonly TakeOverOutcome[]> {
    const beganAtMs = performance.now();
    const at = this.#parts.moment();
    const works = sessions.map((session) => this.#once(this.#parts.shadowed.takeOver(session, at, handedOver)));
    const installed = await this.#installAll(works);
    for (const [n, outcome] of installed.entries()) {
      const { session, work } = { session: sessions[n], work: works[n] };
      this.#log.info({ event: "ipsec-taken-over", from, ...outcome, tookMs: Math.round(performance.now() - beganAtMs) });
      if (session !== undefined) void this.#shakeHands(session, outcome.goneOn === 0 ? [] : (work?.pairs ?? []));
    }
    this.#parts.readAgainSoon();
    return installed;
  }

  /** What was gone on with already has counted further than anybody told: it is left as it is. */
  #once({ outcome, pairs }: TakeOverWork): TakeOverWork {
    const open = pairs.filter((pair) => statesOf([pair]).every((state) => !this.#takenOver.has(keyOf(state))));
    if (open.length === pairs.length) return { outcome, pairs };
    return {
      outcome: { ...outcome, refusals: [...outcome.refusals, "gone-on-before: an order before this one had it"] },
      pairs: open,
    };
  }

  /** All at once; where the kernel refuses one, each by itself. */
  async #installAll(works: readonly TakeOverWork[]): Promise<readonly TakeOverOutcome[]> {
    try {
      await this.#add(works.flatMap(({ pairs }) => pairs));
      return works.map(({ outcome }) => outcome);
    } catch {
      const outcomes: TakeOverOutcome[] = [];
      for (const work of works) outcomes.push(await this.#install(work));
      return outcomes;
    }
  }

  async #install({ outcome, pairs }: TakeOverWork): Promise<TakeOverOutcome> {
    try {
      await this.#add(pairs);
      return outcome;
    } catch (thrown) {
      return { ...outcome, goneOn: 0, refusals: [...outcome.refusals, `not-installed: ${messageOf(thrown)}`] };
    }
  }

  /** Half of a pair is of no use: where one is refused, none stays. */
  async #add(pairs: readonly SaPair[]): Promise<void> {
    const states = statesOf(pairs);
    if (states.length === 0) return;
    try {
      await this.#parts.kernel.batch(states.map(addStateLine));
    } catch (thrown) {
      await this.#parts.kernel.batch(states.map(deleteStateLine), { anyway: true });
      throw thrown;
    }
    for (const pair of pairs) for (const state of statesOf([pair])) this.#takenOver.set(keyOf(state), pair.outbound.source);
  }

  /** Make before break: an IKE SA of this endpoint's own, while the old SAs carry the traffic, which go once it is there. */
  async #shakeHands(
    { session, connection, child }: TakeOverOrder["sessions"][number],
    pairs: readonly SaPair[],
  ): Promise<void> {
    try {
      await this.#parts.ike.initiate(connection, child);
      this.#log.info({ event: "ipsec-handshake", session });
    } catch (thrown) {
      this.#log.error({ event: "ipsec-handshake-failed", session, detail: messageOf(thrown) });
      return;
    } finally {
      this.#parts.readAgainSoon();
    }
    await delay(IPSEC_LIMITS.overlapMs, undefined, { signal: this.#parts.signal }).catch(() => undefined);
    if (this.#parts.signal.aborted) return;
    const states = statesOf(pairs);
    await this.#parts.kernel.batch(states.map(deleteStateLine), { anyway: true });
    for (const state of states) this.#takenOver.delete(keyOf(state));
    this.#parts.shadowed.forget(session);
  }
}

/** One that failed may be tried again; the oldest answers are forgotten. */
function onceFor<Answer>(known: Map<string, Promise<Answer>>, operation: string, work: () => Promise<Answer>): Promise<Answer> {
  const before = known.get(operation);
  if (before !== undefined) return before;
  const answer = work();
  known.set(operation, answer);
  answer.catch(() => known.delete(operation));
  for (const oldest of known.keys()) {
    if (known.size <= IPSEC_LIMITS.outcomesKept) break;
    known.delete(oldest);
  }
  return answer;
}

/** SAs that are received by these SPIs, and what sends beside them: a pair goes as one, for what is sent by the other half would be numbered twice. */
function pairsOf(states: readonly XfrmState[], spis: readonly number[]): readonly XfrmState[] {
  const wanted = new Set(spis);
  const inbound = states.filter(({ spi }) => wanted.has(spi));
  const reqids = new Set(inbound.map(({ reqid }) => reqid));
  const outbound = states.filter(
    ({ reqid, source, destination }) =>
      reqids.has(reqid) && inbound.some((half) => half.destination === source && half.source === destination),
  );
  return [...new Set([...inbound, ...outbound])];
}

function statesOf(pairs: readonly SaPair[]): readonly XfrmState[] {
  return pairs.flatMap(({ outbound, inbound }) => [inbound, outbound]);
}

function keyOf({ destination, spi }: XfrmState): string {
  return `${destination} ${spi}`;
}
