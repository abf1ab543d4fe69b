/**
 * Crashes of a gateway played on counters alone: sender and replay window as Linux keeps them, updates that come late or not at all, and
 * somebody who replays everything the peer ever sent. Counts what must never be: a number used twice, a packet accepted twice.
 */
import { ReplayWindow, SequenceSender } from "../models/ipsec/replay-window.ts";
import { type Bound, PeakRate, type PeakRates, type TakeoverPlan, takeOver } from "../models/ipsec/takeover.ts";

export interface Crash {
  readonly esn: boolean;
  readonly replayWindow: number;
  /** Numbers used before. */
  readonly outboundFrom: number;
  readonly inboundFrom: number;
  /** Packets a second that the session has shown, in each direction. */
  readonly outboundPps: number;
  readonly inboundPps: number;
  /** The rate after the warm-up, as a share of what was shown. */
  readonly burst: number;
  readonly updateIntervalMs: number;
  readonly updateLoss: number;
  readonly lagMsMax: number;
  readonly crashAtMs: number;
  /** From the crash until nothing of the endpoint passes any more. */
  readonly fencedAfterMs: number;
  /** The endpoint only loses its updates and works until it is fenced. */
  readonly worksOn: boolean;
  /** Up to which of the peer's numbers the balancer let packets through, it knows by blocks of so many; 0: it does not know. */
  readonly passedBlock: number;
}

export interface CrashResult {
  readonly reused: number;
  readonly replayAccepted: number;
  /** New packets of the shadow that the peer refuses. */
  readonly refusedByPeer: number;
  /** New packets of the peer above all that was skipped, and refused. */
  readonly refusedByShadow: number;
  readonly refusal: string | undefined;
}

export interface CrashOptions {
  readonly random: () => number;
  readonly bound?: Bound;
  /** Makes what the balancer says lower than it is, on purpose. */
  readonly passedLess?: number;
  /** Makes a plan worse on purpose. */
  readonly spoil?: (plan: TakeoverPlan) => TakeoverPlan;
}

/** At this rate the session goes first, long enough for one reading of it. */
const WARM_UP_MS = 120;
const AFTER_PACKETS = 40;

interface Update {
  readonly outbound: number;
  readonly inbound: number;
  readonly readAtMs: number;
  readonly heardAtMs: number;
  readonly peaks: PeakRates;
}

/** Plays one crash, a millisecond at a time. */
export function playCrash(crash: Crash, { random, bound, passedLess = 0, spoil = (plan) => plan }: CrashOptions): CrashResult {
  const played = playEndpoint(crash, random);
  const { known, sent, gateway, peer, fencedAtMs } = played;
  // What the word's lag was is not known, so the longest is taken.
  const ageMs = fencedAtMs - known.heardAtMs + crash.lagMsMax;
  const sa = {
    esn: crash.esn,
    outbound: { sequence: known.outbound },
    inbound: {
      sequence: known.inbound,
      replayWindow: crash.replayWindow,
      passedAtMost: crash.passedBlock === 0 ? undefined : blockEnd(played.peerSequence, crash.passedBlock) - passedLess,
    },
    lifetime: {},
    bytes: 0,
    packets: 0,
  };
  const outcome = takeOver(sa, known.peaks, { ageMs, nowMs: fencedAtMs }, bound);
  if (outcome.kind === "new-handshake")
    return { reused: 0, replayAccepted: 0, refusedByPeer: 0, refusedByShadow: 0, refusal: outcome.reason };
  const plan = spoil(outcome);
  const shadow = new SequenceSender(crash.esn, plan.outboundSequence);
  const window = new ReplayWindow(crash.esn, plan.replayWindow, plan.inboundSequence);
  const counts = { reused: 0, replayAccepted: 0, refusedByPeer: 0, refusedByShadow: 0, refusal: undefined };
  const replayAll = () => {
    for (const sequence of inRandomOrder(sent.inbound, random)) {
      if (!window.accept(sequence)) continue;
      if (gateway.accepted.has(sequence)) counts.replayAccepted += 1;
      gateway.accepted.add(sequence);
    }
  };
  replayAll();
  for (let n = 0; n < AFTER_PACKETS; n += 1) {
    const sequence = shadow.next();
    if (sequence === undefined) break;
    if (sent.outbound.has(sequence)) counts.reused += 1;
    else if (!peer.window.accept(sequence)) counts.refusedByPeer += 1;
    sent.outbound.add(sequence);
  }
  // The peer sends on until it is past what was skipped; what comes then must be let in.
  const first = Math.max(played.peerSequence, plan.inboundSequence - plan.replayWindow) + 1;
  for (let sequence = first; sequence < first + AFTER_PACKETS; sequence += 1) {
    if (window.accept(sequence)) gateway.accepted.add(sequence);
    else if (!gateway.accepted.has(sequence)) counts.refusedByShadow += 1;
    sent.inbound.push(sequence);
  }
  replayAll();
  return counts;
}

function blockEnd(sequence: number, block: number): number {
  return Math.floor(sequence / block) * block + block - 1;
}

/** The endpoint until it is fenced: what it sent, accepted, and had told. */
function playEndpoint(crash: Crash, random: () => number) {
  const sender = new SequenceSender(crash.esn, crash.outboundFrom);
  const peerSender = new SequenceSender(crash.esn, crash.inboundFrom);
  const gateway = {
    window: new ReplayWindow(crash.esn, crash.replayWindow, crash.inboundFrom),
    accepted: new Set<number>(),
  };
  const peer = { window: new ReplayWindow(crash.esn, crash.replayWindow, crash.outboundFrom) };
  const sent = { outbound: new Set<number>(), inbound: new Array<number>() };
  const peaks = { outbound: new PeakRate(), inbound: new PeakRate() };
  const updates: Update[] = [];
  const crashAtMs = WARM_UP_MS + crash.crashAtMs;
  const fencedAtMs = crashAtMs + crash.fencedAfterMs;
  const endsAtMs = crash.worksOn ? fencedAtMs : crashAtMs;
  const due = { outbound: 0, inbound: 0 };
  for (let atMs = 0; atMs < fencedAtMs; atMs += 1) {
    const works = atMs < endsAtMs;
    if (works && (atMs === 0 || atMs === WARM_UP_MS || atMs % crash.updateIntervalMs === 0)) {
      peaks.outbound.read(sender.sequence, atMs);
      peaks.inbound.read(gateway.window.sequence, atMs);
      const told = atMs <= WARM_UP_MS || (atMs < crashAtMs && random() >= crash.updateLoss);
      const heardAtMs = atMs + (atMs <= WARM_UP_MS ? 0 : random() * crash.lagMsMax);
      if (told && heardAtMs < fencedAtMs)
        updates.push({
          outbound: sender.sequence,
          inbound: gateway.window.sequence,
          readAtMs: atMs,
          heardAtMs,
          peaks: { outboundPps: peaks.outbound.pps, inboundPps: peaks.inbound.pps },
        });
    }
    const share = atMs < WARM_UP_MS ? 1 : crash.burst;
    due.outbound += (crash.outboundPps * share) / 1000;
    due.inbound += (crash.inboundPps * share) / 1000;
    for (; due.outbound >= 1; due.outbound -= 1) {
      const sequence = works ? sender.next() : undefined;
      if (sequence === undefined) continue;
      sent.outbound.add(sequence);
      peer.window.accept(sequence);
    }
    for (; due.inbound >= 1; due.inbound -= 1) {
      const sequence = peerSender.next();
      if (sequence === undefined) continue;
      sent.inbound.push(sequence);
      if (works && gateway.window.accept(sequence)) gateway.accepted.add(sequence);
    }
  }
  const known = updates.reduce((newest, update) => (update.readAtMs > newest.readAtMs ? update : newest));
  return { known, sent, gateway, peer, fencedAtMs, peerSequence: peerSender.sequence };
}

/** Crash points, rates, losses and lags over the whole of what the bound is for. */
export function randomCrash(random: () => number): Crash {
  const between = (low: number, high: number) => low + random() * (high - low);
  const esn = random() < 0.5;
  const near32 = 2 ** 32 - Math.floor(between(0, 2 ** 25));
  const from = () => {
    const kind = random();
    if (kind < 0.4) return Math.floor(between(0, 5_000));
    if (kind < 0.8) return Math.floor(between(0, 2 ** 31));
    return esn ? near32 + Math.floor(between(-2_000, 2_000)) : near32 - 1;
  };
  return {
    esn,
    replayWindow: Math.floor(between(1, 129)),
    outboundFrom: from(),
    inboundFrom: from(),
    outboundPps: Math.exp(between(0, Math.log(2_000))),
    inboundPps: Math.exp(between(0, Math.log(2_000))),
    // Twice what was measured is what the bound is for.
    burst: between(0, 1.98),
    updateIntervalMs: Math.floor(between(10, 200)),
    updateLoss: random() < 0.5 ? random() : 0,
    lagMsMax: between(0, 60),
    crashAtMs: Math.floor(between(0, 300)),
    fencedAfterMs: Math.floor(between(0, 400)),
    worksOn: random() < 0.5,
    passedBlock: random() < 0.5 ? 0 : 2 ** Math.floor(between(0, 6)),
  };
}

/** A crash without a proof of its own: `count` of them, from one seed. */
export function playCrashes(count: number, options: CrashOptions) {
  const sums = { crashes: count, reused: 0, replayAccepted: 0, refusedByPeer: 0, refusedByShadow: 0, newHandshakes: 0 };
  for (let n = 0; n < count; n += 1) {
    const result = playCrash(randomCrash(options.random), options);
    sums.reused += result.reused;
    sums.replayAccepted += result.replayAccepted;
    sums.refusedByPeer += result.refusedByPeer;
    sums.refusedByShadow += result.refusedByShadow;
    if (result.refusal !== undefined) sums.newHandshakes += 1;
  }
  return sums;
}

function inRandomOrder(list: readonly number[], random: () => number): number[] {
  const order = [...list];
  for (let at = order.length - 1; at > 0; at -= 1) {
    const other = Math.floor(random() * (at + 1));
    [order[at], order[other]] = [order[other] ?? 0, order[at] ?? 0];
  }
  return order;
}
