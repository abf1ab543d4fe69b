// A planned move on counters alone, as Linux keeps them: SAs of the new endpoint's own beside the old ones, or the old ones handed over with
// their last numbers, with somebody who replays everything the peer ever sent, and with a crash of the old endpoint at any moment.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ReplayWindow, SequenceSender } from "../../models/ipsec/replay-window.ts";
import { type Bound, PeakRate, takeOver } from "../../models/ipsec/takeover.ts";
import { seededRandom } from "../../models/random.ts";
import { holds } from "../support/property.ts";

const RUNS = 10_000;
const MUTANT_RUNS = 1_500;
const WARM_UP_MS = 130;
const AFTER_MS = 60;

interface Planned {
  readonly esn: boolean;
  readonly replayWindow: number;
  readonly from: number;
  readonly outboundPps: number;
  readonly inboundPps: number;
  /** After the warm-up, as a share of the rates before. */
  readonly burst: number;
  /** From the call until the client has its new SAs, the new endpoint has them, the ways back lead to it, and the old one says goodbye. */
  readonly clientMs: number;
  readonly madeMs: number;
  readonly backMs: number;
  readonly overlapMs: number;
  /** What comes for SAs that are being made waits for them. */
  readonly isHeld: boolean;
  /** The old endpoint crashes so long after the call; undefined: it does not. */
  readonly crashMs: number | undefined;
  /** The client cannot be called: the old SAs are handed over, which takes so long from the kernel's answer until they are out. */
  readonly handOverMs: number | undefined;
}

const moves: fc.Arbitrary<Planned> = fc.record({
  esn: fc.boolean(),
  replayWindow: fc.integer({ min: 1, max: 128 }),
  from: fc.integer({ min: 0, max: 2 ** 31 }),
  outboundPps: fc.integer({ min: 10, max: 2_000 }),
  inboundPps: fc.integer({ min: 10, max: 2_000 }),
  burst: fc.integer({ min: 0, max: 198 }).map((percent) => percent / 100),
  clientMs: fc.integer({ min: 0, max: 60 }),
  madeMs: fc.integer({ min: 0, max: 60 }),
  backMs: fc.integer({ min: 0, max: 40 }),
  overlapMs: fc.integer({ min: 0, max: 80 }),
  isHeld: fc.constant(true),
  crashMs: fc.option(fc.integer({ min: 0, max: 200 }), { nil: undefined, freq: 2 }),
  handOverMs: fc.option(fc.integer({ min: 0, max: 150 }), { nil: undefined, freq: 2 }),
});

/** One direction of one SA: who sends by it, and every number that anybody has sent or accepted. */
class Direction {
  readonly sent: number[] = [];
  readonly accepted = new Set<number>();
  readonly #used = new Set<number>();
  reused = 0;
  replayed = 0;
  lost = 0;

  send(sender: SequenceSender): number | undefined {
    const sequence = sender.next();
    if (sequence === undefined) return undefined;
    if (this.#used.has(sequence)) this.reused += 1;
    this.#used.add(sequence);
    this.sent.push(sequence);
    return sequence;
  }

  receive(window: ReplayWindow | undefined, sequence: number): void {
    if (window?.accept(sequence) !== true) {
      this.lost += 1;
      return;
    }
    if (this.accepted.has(sequence)) this.replayed += 1;
    this.accepted.add(sequence);
  }

  /** Everything once more, to a window that is there. */
  replay(window: ReplayWindow | undefined): void {
    for (const sequence of this.sent)
      if (window?.accept(sequence) === true) {
        if (this.accepted.has(sequence)) this.replayed += 1;
        this.accepted.add(sequence);
      }
  }
}

interface Ends {
  readonly gateway: { sender: SequenceSender; window: ReplayWindow } | undefined;
  readonly peer: { sender: SequenceSender; window: ReplayWindow };
}

interface Played {
  readonly reused: number;
  readonly replayed: number;
  readonly lost: number;
}

function play(move: Planned, random: () => number, bound?: Bound): Played {
  const { esn, replayWindow, from } = move;
  const ends = (at: number) => ({ sender: new SequenceSender(esn, at), window: new ReplayWindow(esn, replayWindow, at) });
  let old: Ends = { gateway: ends(from), peer: ends(from) };
  let made: Ends | undefined;
  const traffic = { old: [new Direction(), new Direction()], made: [new Direction(), new Direction()] } as const;
  const peaks = [new PeakRate(), new PeakRate()] as const;
  const held: number[] = [];
  const calledAtMs = WARM_UP_MS;
  const isCalled = move.handOverMs === undefined;
  const clientAtMs = calledAtMs + move.clientMs;
  const madeAtMs = clientAtMs + move.madeMs;
  const backAtMs = madeAtMs + move.backMs;
  const goodbyeAtMs = backAtMs + move.overlapMs;
  const endsAtMs = Math.max(goodbyeAtMs, calledAtMs + (move.handOverMs ?? 0), calledAtMs + (move.crashMs ?? 0)) + AFTER_MS;
  let read: { outbound: number; inbound: number; atMs: number } | undefined;
  let due = [0, 0] as [number, number];
  const goOn = (ageMs: number, nowMs: number, known: { outbound: number; inbound: number }) => {
    const sa = {
      esn,
      outbound: { sequence: known.outbound },
      inbound: { sequence: known.inbound, replayWindow },
      lifetime: {},
      bytes: 0,
      packets: 0,
    };
    const plan = takeOver(sa, { outboundPps: peaks[0].pps, inboundPps: peaks[1].pps }, { ageMs, nowMs }, bound);
    const gateway =
      plan.kind === "new-handshake"
        ? undefined
        : {
            sender: new SequenceSender(esn, plan.outboundSequence),
            window: new ReplayWindow(esn, replayWindow, plan.inboundSequence),
          };
    old = { ...old, gateway };
  };
  const countersNow = (atMs: number) => ({
    outbound: old.gateway?.sender.sequence ?? 0,
    inbound: old.gateway?.window.sequence ?? 0,
    atMs,
  });
  let isCrashed = false;
  for (let atMs = 0; atMs < endsAtMs; atMs += 1) {
    if (atMs === 0 || atMs === WARM_UP_MS - 1) {
      peaks[0].read(old.gateway?.sender.sequence ?? 0, atMs);
      peaks[1].read(old.gateway?.window.sequence ?? 0, atMs);
    }
    if (isCalled && atMs === clientAtMs && !isCrashed) made = { gateway: undefined, peer: ends(0) };
    if (made !== undefined && made.gateway === undefined && atMs >= madeAtMs) {
      made = { ...made, gateway: ends(0) };
      for (const sequence of held.splice(0)) traffic.made[1].receive(made.gateway?.window, sequence);
    }
    if (isCalled && made !== undefined && atMs === goodbyeAtMs && !isCrashed) old = { ...old, gateway: undefined };
    // Of the old one, if it crashes while it has the SAs, the shadow knows what its last reading said.
    if (atMs === calledAtMs) read = countersNow(atMs);
    if (move.crashMs === atMs - calledAtMs && old.gateway !== undefined && !isCrashed && read !== undefined && isCalled) {
      isCrashed = true;
      goOn(atMs - read.atMs, atMs, read);
    }
    // Nothing passes from the moment that its SAs are out; its counters were read before.
    if (!isCalled && atMs === calledAtMs + (move.handOverMs ?? 0) && read !== undefined) goOn(atMs - read.atMs, atMs, read);
    const share = atMs < WARM_UP_MS ? 1 : move.burst;
    due = [due[0] + (move.outboundPps * share) / 1000, due[1] + (move.inboundPps * share) / 1000];
    const clientSends = made ?? old;
    const gatewaySends = made?.gateway !== undefined && atMs >= backAtMs ? made : old;
    for (; due[0] >= 1; due[0] -= 1) {
      const direction = gatewaySends === made ? traffic.made[0] : traffic.old[0];
      const sequence = gatewaySends.gateway === undefined ? undefined : direction.send(gatewaySends.gateway.sender);
      if (sequence === undefined) direction.lost += 1;
      else direction.receive(gatewaySends.peer.window, sequence);
    }
    for (; due[1] >= 1; due[1] -= 1) {
      const direction = clientSends === made ? traffic.made[1] : traffic.old[1];
      const sequence = direction.send(clientSends.peer.sender);
      if (sequence === undefined) continue;
      if (clientSends === made && made.gateway === undefined && move.isHeld) held.push(sequence);
      else direction.receive(clientSends.gateway?.window, sequence);
    }
    if (random() < 0.03) {
      traffic.old[1].replay(old.gateway?.window);
      traffic.made[1].replay(made?.gateway?.window);
    }
  }
  traffic.old[1].replay(old.gateway?.window);
  traffic.made[1].replay(made?.gateway?.window);
  const all = [...traffic.old, ...traffic.made];
  const sum = (count: (direction: Direction) => number) => all.reduce((total, direction) => total + count(direction), 0);
  return { reused: sum(({ reused }) => reused), replayed: sum(({ replayed }) => replayed), lost: sum(({ lost }) => lost) };
}

test(`no number twice and no replay over ${RUNS} planned moves, and none is lost where nothing crashes and the client can be called`, (context) => {
  const seen = { whole: 0, crashed: 0, handedOver: 0 };
  const property = fc.property(moves, fc.integer(), (move, seed) => {
    const { lost, ...counts } = play(move, seededRandom(seed));
    assert.deepEqual(counts, { reused: 0, replayed: 0 });
    if (move.handOverMs !== undefined) seen.handedOver += 1;
    else if (move.crashMs !== undefined) seen.crashed += 1;
    else {
      seen.whole += 1;
      assert.equal(lost, 0);
    }
  });
  holds(context, property, RUNS);
  for (const [kind, count] of Object.entries(seen)) assert.ok(count > RUNS / 20, `${kind}: ${count}`);
});

test("without the hold packets are lost, and without the bound numbers are used twice and replays accepted", () => {
  const random = seededRandom(11);
  const sums = { unheld: 0, reused: 0, replayed: 0 };
  for (const move of fc.sample(moves, { numRuns: MUTANT_RUNS, seed: 11 })) {
    const calm = { ...move, crashMs: undefined, handOverMs: undefined };
    sums.unheld += play({ ...calm, isHeld: false }, random).lost;
    const { reused, replayed } = play(move, random, { factor: 0, linePps: 0 });
    sums.reused += reused;
    sums.replayed += replayed;
  }
  assert.ok(sums.unheld > 100 && sums.reused > 100 && sums.replayed > 100, JSON.stringify(sums));
});
