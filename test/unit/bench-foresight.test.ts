// What the benchmark of foresight stands on: a schedule that can be repeated, and losses dated to where they happened.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type SwarmView, whatIsUnrest } from "../../bench/at-rest.ts";
import { evenMoves } from "../../bench/even-spread.ts";
import { byMode, figuresOf } from "../../bench/foresight-figures.ts";
import type { Outcome } from "../../bench/foresight-trial.ts";
import { dealer } from "../../bench/random.ts";
import { type AutomaticStep, lostBetween, stepsOf } from "../../bench/span.ts";
import type { LabTraffic, PacketCounters } from "../../lab/lab-client.ts";
import { seededRandom } from "../../models/random.ts";
import { holds } from "../support/property.ts";

function counters(sent: number, lost: number): PacketCounters {
  return { sent, lost, received: sent - lost, duplicated: 0, reordered: 0, longestGapMs: 0, longestGapEndedAtMs: undefined };
}

function traffic(countedToMs: number, up: PacketCounters, down: PacketCounters): LabTraffic {
  const tcp = { broken: 0, longestStallMs: 0, bytes: 0 };
  return {
    sinceMs: 0,
    countedToMs,
    clients: [{ client: "client-1", publicKey: "one", innerAddress: "10.66.1.1", up, down, tcp }],
  };
}

test("packets lost between two looks are those of the later one less those of the earlier, in both directions", () => {
  const before = traffic(1_000, counters(100, 1), counters(100, 0));
  const seen = { atMs: 2_600, members: [] };
  const after = traffic(1_500, counters(150, 2), counters(150, 4));
  assert.deepEqual(lostBetween({ ...seen, before, after }, "one"), { lost: 5, share: 0.05 });
  assert.deepEqual(lostBetween({ ...seen, before, after: before }, "one"), { lost: 0, share: 0 });
  assert.deepEqual(lostBetween({ ...seen, before, after }, "somebody else"), { lost: 0, share: 0 });
});

test("the same seed deals the same cards, each equally often when all are dealt", () => {
  const cards = ["a", "b", "c", "d"] as const;
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 1, max: 5 }), (seed, rounds) => {
      const deal = () => {
        const next = dealer(cards, seededRandom(seed));
        return Array.from({ length: rounds * cards.length }, next);
      };
      const dealt = deal();
      assert.deepEqual(deal(), dealt);
      for (const card of cards) assert.equal(dealt.filter((one) => one === card).length, rounds);
    }),
  );
});

function outcome(mode: Outcome["mode"], kind: Outcome["kind"], more: Partial<Outcome> = {}): Outcome {
  const cost = { packetsSent: 1_000, packetsLost: 0, packetsDuplicated: 0, tcpBroken: 0, longestGapMs: 0 };
  const acted = { actedBeforeImpact: false, actedBeforeFirstLoss: false, leadSeconds: undefined, faulty: "ep-1" };
  return { mode, kind, ...cost, capacityHours: 0.5, endpointHours: 0.25, steps: [], sessionsAtRisk: 2, ...acted, ...more };
}

function step(kind: AutomaticStep["kind"], endpoint: string, predicted = false): AutomaticStep {
  return { kind, endpoint, atMs: 0, predicted, text: "" };
}

test("what was done to the broken endpoint is no false action, and what was done to others is", () => {
  const steps = [step("drain", "ep-1", true), step("drain", "ep-2"), step("drain", "ep-3", true), step("less-weight", "ep-2")];
  const figures = figuresOf([outcome("foresight", "rising-loss", { steps: [...steps, step("ejection", "ep-2")] })], 50);
  assert.deepEqual(
    [figures.falseActions, figures.falsePredictions, figures.falseEjections, figures.falseWeights],
    [2, 1, 1, 1],
  );
  assert.equal(figures.perEndpointHour?.falseActions, 8);
});

test("where sessions grow nothing is broken: each drain is for nothing, a lowered weight is not", () => {
  const steps = [step("less-weight", "ep-2"), step("more-endpoints", "ep-4"), step("drain", "ep-2")];
  const figures = figuresOf([outcome("reactive", "session-growth", { faulty: undefined, steps })], 50);
  assert.deepEqual([figures.falseActions, figures.falseWeights], [1, 0]);
});

test("interruption is packets lost over their rate, and quiet spans are no faults", () => {
  const played = [
    outcome("reactive", "incident", { packetsLost: 300, leadSeconds: -2 }),
    outcome("foresight", "incident", { actedBeforeImpact: true, leadSeconds: 30 }),
    outcome("reactive", "quiet", { sessionsAtRisk: 0, faulty: undefined }),
    outcome("foresight", "quiet", { sessionsAtRisk: 0, faulty: undefined }),
  ];
  const { reactive, foresight } = byMode(played, 50);
  assert.deepEqual([reactive.faults, foresight.faults], [1, 1]);
  assert.deepEqual([reactive.interruptionSeconds, reactive.interruptionSecondsPerSession], [3, 1.5]);
  assert.deepEqual([reactive.actedBeforeImpact, foresight.actedBeforeImpact], [0, 1]);
  assert.deepEqual([reactive.leadSecondsP50, foresight.leadSecondsP50], [-2, 30]);
  assert.deepEqual([reactive.endpointHours, foresight.capacityHours], [0.5, 1]);
});

test("steps are told from the audit trail: drains, weights that the swarm lowers, machines it adds", () => {
  const row = (action: string, workflowId: string, details: Record<string, number | boolean> = {}) =>
    stepsOf({ swarm: "lab", endpoint: "ep-1", atMs: 5, action, text: "…", details, workflowId }).map(({ kind }) => kind);
  assert.deepEqual(row("drain", "drain/lab/ep-1", { weight: 0, draining: true }), ["drain"]);
  assert.deepEqual(row("drain", "drain/lab/ep-1"), [], "its end is no step");
  assert.deepEqual(row("set weight", "swarm/lab", { weight: 40 }), ["less-weight"]);
  assert.deepEqual(row("set weight", "swarm/lab", { weight: 100 }), []);
  assert.deepEqual(row("set weight", "drain/lab/ep-1", { weight: 40 }), []);
  assert.deepEqual(row("wake the ghost", "add/lab"), ["more-endpoints"]);
  assert.deepEqual(row("launch a machine", "add/lab/2"), ["more-endpoints"], "beside the first");
  assert.deepEqual(row("relieve", "relieve/lab/ep-1", { sessionsMoved: 1 }), ["relief"]);
  assert.deepEqual(row("wake the ghost", "drain/lab/ep-2"), []);
});

test("moves make the spread even, and no more of them than it takes", (context) => {
  const sessions = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 40 });
  holds(
    context,
    fc.property(sessions, fc.integer({ min: 1, max: 5 }), (holders, count) => {
      const endpoints = Array.from({ length: count }, (_, at) => `ep-${at}`);
      const present = holders.map((at, key) => ({ publicKey: `${key}`, endpoint: `ep-${at}` }));
      const moves = evenMoves(present, endpoints);
      const after = new Map(present.map(({ publicKey, endpoint }) => [publicKey, endpoint]));
      for (const { session, to } of moves) after.set(session.publicKey, to);
      const counts = endpoints.map((name) => [...after.values()].filter((endpoint) => endpoint === name).length);
      assert.equal(
        counts.reduce((sum, one) => sum + one, 0),
        present.length,
      );
      assert.ok(Math.max(...counts) - Math.min(...counts) <= 1);
      const before = endpoints.map((name) => present.filter(({ endpoint }) => endpoint === name).length);
      const needed = counts.reduce((sum, one, at) => sum + Math.max(0, one - (before[at] ?? 0)), 0);
      assert.equal(moves.length, needed);
    }),
    300,
  );
});

test("a swarm is at rest when nothing is under way and everybody serves in full; else it is said what is not so", () => {
  const inner = { answersInARow: 9 };
  const member = { weight: 100, effectiveWeight: 100, draining: false, ejected: false, overloaded: false, inner };
  const rests: SwarmView = {
    members: ["ep-1", "ep-2"].map((endpoint) => ({ endpoint, ...member })),
    machines: [...["ep-1", "ep-2"].map((name) => ({ name, state: "running" as const })), { name: "ep-3", state: "suspended" }],
    sessions: [
      { publicKey: "one", endpoint: "ep-1" },
      { publicKey: "two", endpoint: "ep-2" },
    ],
    status: {
      endpoints: ["ep-1", "ep-2"].map((endpoint) => ({ endpoint, phase: "active" as const })),
      runs: [],
      requested: [],
      recent: [],
    },
  };
  const want = { endpoints: 2, ghosts: 1, sessions: 2, weight: 100 };
  assert.deepEqual(whatIsUnrest(rests, want), []);
  const [first, second] = rests.members;
  assert.ok(first !== undefined && second !== undefined);
  const lowered = {
    ...rests,
    members: [
      { ...first, weight: 20, effectiveWeight: 20 },
      { ...second, effectiveWeight: 10 },
    ],
  };
  assert.deepEqual(whatIsUnrest(lowered, want), ["ep-1 has weight 20 of 100", "ep-2 has weight 10 of 100 in force"]);
  assert.deepEqual(whatIsUnrest(lowered, { ...want, weight: undefined }), [], "as long as nobody asks for it");
  const grown = { ...rests, members: [...rests.members, { ...first, endpoint: "ep-4" }] };
  assert.deepEqual(whatIsUnrest(grown, want), ["3 instead of 2 members", "the swarm does not count on ep-4 yet"]);
  const busy: SwarmView = {
    ...rests,
    sessions: rests.sessions.slice(0, 1),
    status: { ...rests.status, runs: [{ workflowId: "drain/lab/ep-1" }], requested: [{ kind: "drain", endpoint: "ep-2" }] },
  };
  assert.deepEqual(whatIsUnrest(busy, want), [
    "1 of 2 sessions are served",
    "drain/lab/ep-1 is under way",
    "a drain of ep-2 waits",
  ]);
});
