/** Predictions: what scores make of the belief in an endpoint's future, and what the decision does about it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { isInControlSlice } from "../../models/control-slice.ts";
import {
  asksToLeave,
  bandAt,
  determineOptimalAppliance,
  type RiskRecord,
  riskText,
  riskWeight,
  takeScore,
} from "../../models/foresight.ts";
import { initialState, type Plan, plan, recordDisruptionEnd, type SwarmState, takeScores } from "../../models/plan.ts";
import { actionThreshold, anyOf, type Estimate, NO_RISK, orderly, type RiskScore, stakesOf } from "../../models/risk.ts";
import { ForesightPolicy } from "../../models/swarm-spec.ts";
import { holds } from "../support/property.ts";
import { endpointOf, observationOf, specOf, swarmOf } from "./fixtures.ts";

const START = 1_000_000;
const STEP_MS = 5_000;
const POLICY = ForesightPolicy.parse({ mode: "act", dwellMs: 20_000 });

function scoreOf(failure: number | Estimate, change: Partial<RiskScore> = {}): RiskScore {
  const estimate = typeof failure === "number" ? orderly({ value: failure, low: failure - 0.1, high: failure + 0.1 }) : failure;
  const terms = [{ name: "memory", value: estimate.value, text: "memory is full in 40 s at this rate" }];
  return { endpoint: "ep-1", atMs: START, failure: estimate, overload: NO_RISK, carriesSignal: true, terms, ...change };
}

/** Scores one after the other, STEP_MS apart. */
function scored(failures: readonly (number | Estimate)[], sessions = 100, policy = POLICY): RiskRecord | undefined {
  let record: RiskRecord | undefined;
  failures.forEach((failure, index) => {
    const atMs = START + index * STEP_MS;
    record = takeScore(record, scoreOf(failure, { atMs }), sessions, policy, atMs);
  });
  return record;
}

describe("a band", () => {
  test("needs two of three scores, and one odd score changes nothing", () => {
    assert.equal(scored([0.9])?.band, "low");
    assert.equal(scored([0.9, 0.1])?.band, "low");
    assert.equal(scored([0.9, 0.1, 0.9])?.band, "high");
    assert.equal(scored([0.9, 0.1, 0.1, 0.9])?.band, "low");
  });

  test("is entered at once by a score that is sure, where another look would take more than a quarter of the window", () => {
    const once = (failure: number, everyMs: number) => {
      const calm = takeScore(undefined, scoreOf(0.01), 100, POLICY, START, everyMs);
      const atMs = START + everyMs;
      return takeScore(calm, scoreOf(failure, { atMs }), 100, POLICY, atMs, everyMs).band;
    };
    const rarely = POLICY.windowMs / 2;
    assert.equal(once(0.9, rarely), "high", "0.8 at least is above 0.7");
    assert.equal(once(0.75, rarely), "low", "0.65 at least is not");
    assert.equal(once(0.9, POLICY.windowMs / 4), "low", "there is time for a second look");
  });

  test("is left at half of what it was entered at, and not before its dwell", () => {
    const hovering = scored([0.9, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]);
    assert.equal(hovering?.band, "high", "0.5 is above half of 0.7");
    const falling = [0.9, 0.9, 0.01, 0.01];
    assert.equal(scored(falling)?.band, "high", "the dwell has not passed");
    assert.equal(scored([...falling, 0.01, 0.01])?.band, "low");
  });

  test("is not high while the interval is wide, nor where moving costs more than what it saves", () => {
    assert.equal(scored(Array(3).fill({ value: 0.8, low: 0.1, high: 1 }))?.band, "elevated");
    assert.equal(scored([0.9, 0.9, 0.9], 1)?.band, "elevated", "one session is not worth a machine");
    assert.equal(scored([0.9, 0.9, 0.9], 0)?.band, "low", "nobody is there");
  });

  test("counts for nothing once its score is old, and without signal", () => {
    const record = scored([0.9, 0.9]);
    assert.equal(bandAt(record, POLICY, START + STEP_MS), "high");
    assert.equal(bandAt(record, POLICY, START + STEP_MS + POLICY.scoreStaleMs + 1), "low");
    let deaf: RiskRecord | undefined;
    for (let at = 0; at < 5; at += 1) {
      deaf = takeScore(deaf, scoreOf(0.99, { atMs: START + at, carriesSignal: false }), 100, POLICY, START + at);
    }
    assert.equal(deaf?.band, "low");
  });

  test("asks to leave once, and not again before its cool-down", () => {
    const policy = ForesightPolicy.parse({ ...POLICY, coolDownMs: 40_000 });
    const asks = (failures: readonly number[]) => {
      let record: RiskRecord | undefined;
      return failures.map((failure, index) => {
        const atMs = START + index * STEP_MS;
        record = takeScore(record, scoreOf(failure, { atMs }), 100, policy, atMs);
        return asksToLeave(record, policy, atMs) ? "x" : ".";
      });
    };
    const [rise, calm] = [[0.9, 0.9], Array(6).fill(0)];
    const again = asks([...rise, ...calm, ...Array(12).fill(0.9)]).join("");
    assert.equal(again, ".x...........xxxxxxx", "left after its dwell of 20 s, and 40 s later it may begin anew");
  });

  test("does not count the same score twice", () => {
    const once = takeScore(undefined, scoreOf(0.9), 100, POLICY, START);
    assert.equal(takeScore(once, scoreOf(0.9), 100, POLICY, START + 1), once);
  });
});

describe("risk arithmetic", () => {
  const any = fc.oneof(fc.double(), fc.double({ min: -2, max: 2, noNaN: true }));
  const anyEstimate = fc.record({ value: any, low: any, high: any });

  test("is finite and in order for any input", (context) => {
    const property = fc.property(fc.array(anyEstimate, { maxLength: 6 }), fc.nat({ max: 10_000 }), (estimates, sessions) => {
      const failure = anyOf(estimates);
      assert.ok(failure.low <= failure.value && failure.value <= failure.high);
      assert.ok(failure.low >= 0 && failure.high <= 1);
      const record = takeScore(undefined, scoreOf(failure), sessions, POLICY, START);
      for (const stake of Object.values(stakesOf(record.score, sessions, POLICY))) assert.ok(Number.isFinite(stake));
      const weight = riskWeight(100, record);
      assert.ok(weight >= 10 && weight <= 100);
      assert.ok(!riskText(record, POLICY).includes("NaN"));
    });
    holds(context, property, 500);
  });

  test("moving is worth it above its cost over what it saves", () => {
    const price = (costs: Record<string, number>, efficacy: number, overload = NO_RISK) => {
      const policy = ForesightPolicy.parse({ efficacy, costs: { outagePerSession: 1, movePerSession: 0, ...costs } });
      return actionThreshold({ overload }, 10, policy);
    };
    assert.equal(price({ launch: 1 }, 0.5), 0.2);
    assert.equal(price({ launch: 1 }, 0), Number.POSITIVE_INFINITY);
    assert.equal(price({ launch: 1, outagePerSession: 0 }, 0.5), Number.POSITIVE_INFINITY);
    assert.ok(price({ launch: 1 }, 0.5, { value: 1, low: 1, high: 1 }) < 0.2, "overload that is avoided pays for a part");
  });

  test("a higher probability never asks to leave later, and what is no probability never asks", (context) => {
    const first = (failures: readonly Estimate[]) => {
      let record: RiskRecord | undefined;
      const at = failures.findIndex((failure, index) => {
        const atMs = START + index * STEP_MS;
        record = takeScore(record, scoreOf(failure, { atMs }), 100, POLICY, atMs);
        return asksToLeave(record, POLICY, atMs);
      });
      return at < 0 ? Number.POSITIVE_INFINITY : at;
    };
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    const property = fc.property(
      fc.array(share, { minLength: 1, maxLength: 30 }),
      share,
      fc.array(fc.double(), { maxLength: 20 }),
      (lower, more, odd) => {
        const sure = (value: number) => ({ value, low: value, high: value });
        assert.ok(first(lower.map((value) => sure(Math.min(1, value + more)))) <= first(lower.map(sure)));
        const improper = odd.map((value) => orderly(sure(value > 0 ? Number.NaN : value)));
        assert.equal(first(improper), Number.POSITIVE_INFINITY);
      },
    );
    holds(context, property, 300);
  });

  const RANK = { low: 0, elevated: 1, high: 2 };
  test("a greater risk never leads to a lower band or a higher weight", (context) => {
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    const property = fc.property(share, share, fc.nat({ max: 1_000 }), (a, b, sessions) => {
      const [less, more] = [Math.min(a, b), Math.max(a, b)].map((value) =>
        scored(Array(3).fill({ value, low: value * 0.8, high: value }), sessions),
      );
      assert.ok(less !== undefined && more !== undefined);
      assert.ok(RANK[less.band] <= RANK[more.band]);
      assert.ok(riskWeight(100, less) >= riskWeight(100, more));
    });
    holds(context, property, 500);
  });

  test("does not depend on the unit of the costs", (context) => {
    const property = fc.property(
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.nat({ max: 1_000 }),
      fc.constantFrom(0.25, 4, 1_024),
      (value, sessions, factor) => {
        const costs = Object.fromEntries(Object.entries(POLICY.costs).map(([name, cost]) => [name, cost * factor]));
        const other = ForesightPolicy.parse({ ...POLICY, costs });
        assert.equal(scored([value, value], sessions)?.band, scored([value, value], sessions, other)?.band);
      },
    );
    holds(context, property, 300);
  });

  test("the shadow carries when the primary is above the threshold and the shadow below, with hysteresis", () => {
    const at = (primary: number, shadow: number, current: "primary" | "shadow") =>
      determineOptimalAppliance({ primary, shadow }, 0.7, current, 0.5);
    assert.equal(at(0.8, 0.2, "primary"), "shadow");
    assert.equal(at(0.8, 0.75, "primary"), "primary");
    assert.equal(at(0.6, 0.2, "primary"), "primary");
    assert.equal(at(0.6, 0.2, "shadow"), "shadow", "half of the threshold is not reached yet");
    assert.equal(at(0.3, 0.2, "shadow"), "shadow", "the shadow is still the better one");
    assert.equal(at(0.1, 0.2, "shadow"), "primary");
    assert.equal(at(0.1, 0, "shadow"), "primary", "so little does not matter");
  });
});

describe("the decision", () => {
  const spec = (mode: string) => specOf({ endpoints: { count: 4 }, foresight: { ...POLICY, mode } });
  const seen = () => observationOf(swarmOf(4, { "ep-1": { sessions: 100 } }));
  const settled = (mode: string): SwarmState => plan(initialState(spec(mode)), seen(), START).state;
  const told = (state: SwarmState, failure: number, times: number, endpoints = ["ep-1"]): SwarmState => {
    let next = state;
    for (let time = 0; time < times; time += 1) {
      const atMs = START + time * STEP_MS;
      const scores = endpoints.map((endpoint) => ({ score: scoreOf(failure, { endpoint, atMs }), sessions: 100 }));
      next = takeScores(next, scores, atMs);
    }
    return next;
  };
  const now = START + STEP_MS;
  const kinds = (made: Plan) => made.steps.map((step) => step.kind);

  test("leaves a machine that is sure enough to fail, once", () => {
    const made = plan(told(settled("act"), 0.9, 2), seen(), now);
    assert.deepEqual(kinds(made), ["drain-and-replace"]);
    const [step] = made.steps;
    assert.ok(step?.kind === "drain-and-replace");
    assert.equal(step.cause, "predicted-memory");
    assert.match(step.reason, /ep-1 fails within 10 min with probability 90 %.*memory is full in 40 s/);
    assert.deepEqual(kinds(plan(made.state, seen(), now + 1_000)), [], "the run has it in its hands");
    const undone = recordDisruptionEnd(made.state, "ep-1", "failed", now + 2_000);
    const again = plan(undone, seen(), now + 120_000);
    assert.deepEqual(kinds(again), [], "the old scores do not move it a second time");
  });

  describe("how its sessions leave", () => {
    /** Three others that hold 10 each, and carry so many. */
    const modeOf = (capacitySessions: number, sessions: number, more: { ghosts?: readonly string[]; alone?: boolean } = {}) => {
      const { alone = false, ghosts = ["ghost-1"] } = more;
      const tight = specOf({ endpoints: { count: alone ? 1 : 4, capacitySessions }, foresight: { ...POLICY, mode: "act" } });
      const look = observationOf(swarmOf(alone ? 1 : 4, { "ep-1": { sessions } }), { ghosts });
      const made = plan(told(plan(initialState(tight), look, START).state, 0.9, 2), look, now);
      const step = [...made.steps, ...made.withheld.map((one) => one.step)].find(({ kind }) => kind === "drain-and-replace");
      const isMade = made.steps.some(({ kind }) => kind === "drain-and-replace");
      return step?.kind === "drain-and-replace" ? `${step.mode}${isMade ? "" : ", withheld"}` : undefined;
    };

    test("at once where the others have room for them, whether a ghost waits or not", () => {
      assert.equal(modeOf(400, 100), "spread");
      assert.equal(modeOf(400, 100, { ghosts: [] }), "spread");
    });

    test("to what takes its place where the others would be nearly full", () => {
      assert.equal(modeOf(22, 22), "spread", "3 x 22 carry 52 and are filled to 79 %");
      assert.equal(modeOf(21, 21), "replace", "3 x 21 carry 51, at 81 %");
      assert.equal(modeOf(16, 16, { ghosts: [] }), "replace");
      assert.equal(modeOf(15, 15, { ghosts: [] }), "replace");
      assert.equal(modeOf(14, 14, { ghosts: [] }), "replace, withheld", "a launch may fail, and 3 x 14 do not carry 44");
    });

    test("at once only where the others carry everything and keep a fifth of their room, whatever the numbers", (context) => {
      let spread = 0;
      const property = fc.property(
        fc.integer({ min: 10, max: 400 }),
        fc.integer({ min: 1, max: 400 }),
        (capacity, sessions) => {
          const mode = modeOf(capacity, sessions);
          if (mode?.startsWith("spread") !== true) return;
          spread += 1;
          assert.ok(sessions + 30 <= 3 * capacity * POLICY.overloadThreshold + 1e-9, `${sessions} of ${capacity}`);
        },
      );
      holds(context, property, 200);
      assert.ok(spread > 20, `only ${spread} were spread: this has shown nothing`);
    });

    test("to what takes its place where there is nobody else", () => {
      assert.equal(modeOf(400, 100, { alone: true }), "replace");
    });
  });

  test("only lowers the weight of an endpoint in the control slice, and says so", () => {
    const inSlice = Array.from({ length: 40 }, (_, number) => `ep-${number}`).find((name) =>
      isInControlSlice("lab", name, 0.5),
    );
    const name = inSlice ?? "";
    const seenSlice = observationOf([...swarmOf(4).slice(1), endpointOf(name, { sessions: 100 })]);
    const sliced = specOf({ endpoints: { count: 4 }, foresight: { ...POLICY, mode: "act", controlShare: 0.5 } });
    const made = plan(told(plan(initialState(sliced), seenSlice, START).state, 0.9, 2, [name]), seenSlice, now);
    const [step] = made.steps;
    assert.ok(made.steps.length === 1 && step?.kind === "set-weight", JSON.stringify(made.steps));
    assert.equal(step.cause, "control-slice");
    assert.match(step.reason, /control slice/);
    assert.match(made.withheld.find((one) => one.step.kind === "drain-and-replace")?.because ?? "", /control slice/);
  });

  test("moves nobody for a risk that has passed, though its band is kept for a while", () => {
    const high = told(settled("act"), 0.9, 2);
    const atMs = now + STEP_MS;
    const passed = takeScores(high, [{ score: scoreOf(0, { atMs }), sessions: 100 }], atMs);
    assert.equal(passed.risks?.[0]?.band, "high");
    assert.ok(!kinds(plan(passed, seen(), atMs)).includes("drain-and-replace"));
  });

  test("lowers the weight in proportion while the risk is elevated, and raises it when it is over", () => {
    const made = plan(told(settled("act"), 0.4, 2), seen(), now);
    assert.deepEqual(
      made.steps.map((step) => (step.kind === "set-weight" ? step.weight : step.kind)),
      [60],
    );
    const lowered = observationOf(swarmOf(4, { "ep-1": { sessions: 100, weight: 60 } }));
    const held = plan(made.state, lowered, now + 30_000);
    assert.deepEqual(kinds(held), [], "it stays low as long as the risk does");
    const over = told(held.state, 0.01, 20);
    assert.deepEqual(kinds(plan(over, lowered, START + 200_000)), ["set-weight"]);
  });

  test("only says what it would do where predictions may not act, and nothing where they are off", () => {
    const advised = plan(told(settled("advise"), 0.9, 2), seen(), now);
    assert.deepEqual(kinds(advised), []);
    assert.match(advised.withheld[0]?.because ?? "", /advice only/);
    assert.deepEqual(plan(told(settled("off"), 0.9, 2), seen(), now).withheld, []);
  });

  test("moves nobody, and pages, when half of the swarm looks the same", () => {
    const made = plan(told(settled("act"), 0.9, 2, ["ep-1", "ep-2"]), seen(), now);
    assert.deepEqual(
      kinds(made).filter((kind) => kind !== "set-weight"),
      ["page"],
    );
  });

  test("leads nobody to what is as likely to fail, and says so", () => {
    const unsure = { value: 0.8, low: 0.1, high: 1 };
    let state = settled("act");
    for (let time = 0; time < 2; time += 1) {
      const atMs = START + time * STEP_MS;
      const others = ["ep-2", "ep-3", "ep-4"].map((endpoint) => ({
        score: scoreOf(unsure, { endpoint, atMs }),
        sessions: 100,
      }));
      state = takeScores(state, [{ score: scoreOf(0.9, { atMs }), sessions: 100 }, ...others], atMs);
    }
    const made = plan(state, seen(), now);
    assert.ok(!kinds(made).includes("drain-and-replace"));
    const [withheld] = made.withheld.filter(({ step }) => step.kind === "drain-and-replace");
    assert.match(withheld?.because ?? "", /what would take its sessions over is as likely to fail/);
  });

  test("does not lead sessions back while they are better off where they are", () => {
    const high = told(settled("act"), 0.9, 2);
    const atMs = START + 200_000;
    let state: SwarmState = { ...high, endpoints: high.endpoints.map((one) => ({ ...one, weight: 50 })) };
    const lowered = observationOf(swarmOf(4, { "ep-1": { sessions: 100, weight: 50 } }));
    const risks = (failure: number, at: number) => {
      for (let time = 0; time < 8; time += 1) {
        const scored = at + time * STEP_MS;
        state = takeScores(state, [{ score: scoreOf(failure, { atMs: scored }), sessions: 0 }], scored);
      }
      return kinds(plan(state, lowered, at + 8 * STEP_MS));
    };
    assert.deepEqual(risks(0.3, atMs), [], "empty, it costs nothing where it is, and its shadow is still the better one");
    assert.equal(state.risks?.[0]?.band, "low");
    assert.deepEqual(risks(0.05, atMs + 100_000), ["set-weight"]);
  });

  test("whatever is predicted, nobody is moved twice for one cause", (context) => {
    const share = fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.constantFrom(0, 0.75, 0.95));
    const step = fc.record({ values: fc.tuple(share, share, share, share), ends: fc.boolean() });
    const property = fc.property(fc.array(step, { minLength: 10, maxLength: 60 }), (steps) => {
      const loose = {
        endpoints: { count: 4 },
        foresight: { ...POLICY, coolDownMs: 0 },
        budget: { disruptedShareMaxPercent: 100, windowShareMaxPercent: 100, windowMs: 10_000, freezeUnhealthyPercent: 100 },
        thresholds: { coolDownMs: 20_000 },
      };
      let state = plan(initialState(specOf(loose)), seen(), START).state;
      const began = new Map<string, number>();
      const ended = new Map<string, number>();
      for (const [index, { values, ends }] of steps.entries()) {
        const atMs = START + (index + 1) * STEP_MS;
        const scores = values.map((value, at) => ({
          score: scoreOf(value, { endpoint: `ep-${at + 1}`, atMs }),
          sessions: 100,
        }));
        state = takeScores(state, scores, atMs);
        const made = plan(state, seen(), atMs);
        state = plan(made.state, seen(), atMs).state;
        assert.deepEqual(kinds(plan(made.state, seen(), atMs)), [], "the same moment asks for nothing more");
        for (const one of made.steps.filter(({ kind }) => kind === "drain-and-replace")) {
          const endpoint = "endpoint" in one ? one.endpoint : "";
          const endedAtMs = ended.get(endpoint);
          assert.ok(!began.has(endpoint) || endedAtMs !== undefined, `${endpoint} is in a run's hands`);
          const coolDownMs = state.spec.thresholds.coolDownMs;
          assert.ok(endedAtMs === undefined || atMs - endedAtMs >= coolDownMs, `${endpoint} is moved again at once`);
          const votes = state.spec.foresight.confirmations;
          const since = steps.slice(0, index + 1).filter((_, at) => START + (at + 1) * STEP_MS > (endedAtMs ?? 0));
          assert.ok(since.length >= votes, "what was known before does not count again");
          began.set(endpoint, atMs);
          ended.delete(endpoint);
        }
        for (const endpoint of ends ? [...began.keys()].filter((name) => !ended.has(name)) : []) {
          state = recordDisruptionEnd(state, endpoint, "failed", atMs);
          ended.set(endpoint, atMs);
        }
      }
    });
    holds(context, property, 150);
  });

  test("obeys the stop switch", () => {
    const stopped = { by: "ada", reason: "maintenance", atMs: START };
    const made = plan({ ...told(settled("act"), 0.9, 2), stopped }, seen(), now);
    assert.deepEqual(kinds(made), []);
    assert.match(made.withheld[0]?.because ?? "", /stopped by ada/);
  });
});
