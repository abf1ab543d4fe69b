// Counters on their way from a kernel to a shadow, with events, words and clocks that are late, lost or apart: whatever the schedule, a
// shadow that goes on skips every number that the endpoint before it sent or accepted.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { saSecret } from "../../drivers/tunnel/ipsec-sas.ts";
import type { XfrmState } from "../../drivers/tunnel/xfrm-state.ts";
import type { IpsecLine, NamedDelta } from "../../models/ipsec/wire.ts";
import { IPSEC_LIMITS } from "../../models/limits-ipsec.ts";
import { OwnSessions } from "../../workers/agent/ipsec/own-sessions.ts";
import { ShadowedSessions } from "../../workers/agent/ipsec/shadowed.ts";
import { clientSession } from "../support/ipsec-endpoint.ts";
import { holds } from "../support/property.ts";

const STEP_MS = 5;
const START_MS = 1_800_000_000_000;
/** Clocks of holder and shadow are compared with the collector's over the network: together they are allowed to be this far apart. */
const CLOCKS_APART_MS = 20;
const KERNEL_LATE_MS = IPSEC_LIMITS.lagAllowedMs - 2 * CLOCKS_APART_MS;

const schedule = fc.record({
  pps: fc.integer({ min: 1, max: 2_000 }),
  /** After the warm-up, of what was shown before. */
  hurry: fc.oneof(fc.constant(1.95), fc.double({ min: 0, max: 1.95, noNaN: true })),
  eventPackets: fc.constantFrom(2, 64),
  kernelLateMs: fc.integer({ min: 0, max: KERNEL_LATE_MS }),
  wordLateMs: fc.integer({ min: 0, max: 400 }),
  wordLoss: fc.double({ min: 0, max: 0.9, noNaN: true }),
  holderClockMs: fc.integer({ min: -CLOCKS_APART_MS, max: CLOCKS_APART_MS }),
  shadowClockMs: fc.integer({ min: -CLOCKS_APART_MS, max: CLOCKS_APART_MS }),
  crashAtMs: fc.integer({ min: 600, max: 4_000 }),
  /** It loses its word, and works on until it is fenced. */
  fencedAfterMs: fc.integer({ min: 0, max: 1_500 }),
  orderAfterMs: fc.integer({ min: 0, max: 300 }),
  chance: fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true })),
});
type Schedule = typeof schedule extends fc.Arbitrary<infer T> ? T : never;

/** Things that come to pass later, in the order of their times. */
class Later<T> {
  readonly #waiting: { readonly atMs: number; readonly what: T }[] = [];

  add(atMs: number, what: T): void {
    this.#waiting.push({ atMs, what });
  }

  due(nowMs: number): readonly T[] {
    const due = this.#waiting.filter(({ atMs }) => atMs <= nowMs).sort((one, other) => one.atMs - other.atMs);
    for (const one of due) this.#waiting.splice(this.#waiting.indexOf(one), 1);
    return due.map(({ what }) => what);
  }
}

class Holder {
  readonly own = new OwnSessions("gw-1", START_MS);
  readonly #view = clientSession(1).view;
  readonly #sas = clientSession(1).sas;
  readonly #events = new Later<{ readonly outbound: boolean; readonly sequence: number }>();
  sequence = 100;
  #told = 100;
  #toldAtMs = 0;
  #exact = 100;

  /** `pps` in both directions; the kernel speaks after so many packets, or after 20 ms where one passed. */
  pass(nowMs: number, pps: number, plan: Schedule): void {
    this.#exact += (pps * STEP_MS) / 1_000;
    this.sequence = Math.floor(this.#exact);
    const moved = this.sequence - this.#told;
    if (moved < plan.eventPackets && (moved === 0 || nowMs - this.#toldAtMs < 20)) return;
    this.#told = this.sequence;
    this.#toldAtMs = nowMs;
    for (const outbound of [true, false]) this.#events.add(nowMs + plan.kernelLateMs, { outbound, sequence: this.sequence });
  }

  hear(nowMs: number, clockMs: number): void {
    const [sent, received] = this.#sas;
    for (const { outbound, sequence } of this.#events.due(nowMs)) {
      const sa = outbound ? sent : received;
      if (sa === undefined) continue;
      const { destination, spi, reqid } = sa;
      const counters = { inboundSequence: outbound ? 0 : sequence, outboundSequence: outbound ? sequence : 0 };
      this.own.heard(
        { kind: "counters", destination, spi, reqid, ...counters, seen: "1", bytes: 0, packets: 0 },
        nowMs + clockMs,
      );
    }
  }

  read(nowMs: number, clockMs: number): void {
    const counted = (sa: XfrmState, at: number): XfrmState => ({
      ...sa,
      ...(at === 0 ? { outboundSequence: this.sequence } : { inboundSequence: this.sequence }),
    });
    this.own.observe(this.#sas.map(counted), [this.#view], { atMs: nowMs + clockMs, untilMs: nowMs + clockMs });
    for (const { key } of this.own.unsealed()) this.own.sealed(key, "vault:v1:AAAA");
  }
}

function play(plan: Schedule) {
  const holder = new Holder();
  const shadow = new ShadowedSessions();
  const words = new Later<IpsecLine>();
  let rate = plan.pps;
  const until = plan.crashAtMs + plan.fencedAfterMs;
  for (let at = 0; at <= until; at += STEP_MS) {
    const nowMs = START_MS + at;
    if (at >= 300) rate = plan.pps * plan.hurry;
    if (at > 0) holder.pass(nowMs, rate, plan);
    const clock = plan.holderClockMs;
    if (at < plan.crashAtMs) {
      holder.hear(nowMs, clock);
      if (at % IPSEC_LIMITS.readIntervalMs === 0) holder.read(nowMs, clock);
      if (at % IPSEC_LIMITS.updateIntervalMs === 0) tell(holder, words, nowMs, plan);
    }
    take(shadow, words, nowMs, plan);
  }
  const orderAt = START_MS + until + plan.orderAfterMs;
  take(shadow, words, orderAt, plan);
  for (const { key } of shadow.unopened())
    shadow.opened(key, saSecret({ ...clientSession(1).sas[0], replayWindow: 32 } as XfrmState));
  const session = `${clientSession(1).view.initiatorSpi}${clientSession(1).view.responderSpi}`;
  const at = { monotonicMs: orderAt - START_MS, nowMs: orderAt + plan.shadowClockMs };
  const work = shadow.takeOver({ session, connection: "net", child: "net", passed: [] }, at);
  return { work, sequence: holder.sequence };
}

function tell(holder: Holder, words: Later<IpsecLine>, nowMs: number, plan: Schedule): void {
  const sentAtMs = nowMs + plan.holderClockMs;
  const untold = holder.own.untold(sentAtMs);
  if (untold === undefined) return;
  const late = () => nowMs + (plan.chance.next().value ?? 0) * plan.wordLateMs;
  for (const copy of untold.copies) words.add(late(), { ipsec: copy, sentAtMs });
  const lost = (plan.chance.next().value ?? 0) < plan.wordLoss;
  const deltas: readonly NamedDelta[] = lost ? [] : untold.deltas;
  for (const delta of deltas) words.add(late(), { ipsecDelta: delta, sentAtMs });
  holder.own.told(untold, { unknown: [], shadows: {} });
}

function take(shadow: ShadowedSessions, words: Later<IpsecLine>, nowMs: number, plan: Schedule): void {
  const at = { monotonicMs: nowMs - START_MS, nowMs: nowMs + plan.shadowClockMs };
  for (const line of words.due(nowMs)) {
    if ("ipsec" in line) shadow.copied(line.ipsec, line.sentAtMs, at);
    else if ("ipsecDelta" in line) shadow.moved(line.ipsecDelta, line.sentAtMs, at);
  }
}

test("whatever is late, lost or apart, a shadow that goes on skips all that was sent and accepted", (context) => {
  let goneOn = 0;
  const property = fc.property(schedule, (plan) => {
    const { work, sequence } = play(plan);
    for (const { outbound, inbound } of work.pairs) {
      goneOn += 1;
      assert.ok(outbound.outboundSequence >= sequence, `sent ${sequence}, goes on from ${outbound.outboundSequence}`);
      const floor = inbound.inboundSequence - inbound.replayWindow;
      assert.ok(floor >= sequence, `accepted ${sequence}, lets in what is above ${floor}`);
    }
    if (work.pairs.length === 0) assert.match(work.outcome.refusals.join(), /^(stale|rate-unknown|not-shadowed)/);
  });
  holds(context, property, 400);
  assert.ok(goneOn > 200, `${goneOn} went on`);
});

test("a clock that is wrong by more than a second takes nothing from the bound", () => {
  const property = fc.property(schedule, (plan) => {
    const young = { ...plan, hurry: Math.max(plan.hurry, 1), holderClockMs: 1_500, shadowClockMs: 0, wordLoss: 0 };
    const { work, sequence } = play({ ...young, pps: 1_000, fencedAfterMs: 1_400, orderAfterMs: 0, wordLateMs: 0 });
    for (const { inbound } of work.pairs) assert.ok(inbound.inboundSequence - inbound.replayWindow >= sequence);
  });
  const { failed } = fc.check(property, { numRuns: 50 });
  assert.equal(failed, false, "the time since a word came is counted by one clock alone");
});
