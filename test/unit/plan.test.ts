/** The decision, case by case: what is done about each kind of trouble, and what is not. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { checkDrain } from "../../models/budget.ts";
import type { EndpointObservation, Observation } from "../../models/observation.ts";
import {
  applySpec,
  initialState,
  type Plan,
  plan,
  recordDisruptionEnd,
  recordLaunchEnd,
  requestDrain,
  requestReplace,
  resume,
  type SwarmState,
  stop,
  summary,
} from "../../models/plan.ts";
import { endpointOf, observationOf, type SpecChange, specOf, swarmOf } from "./fixtures.ts";

const START = 1_000_000;
type Changes = Readonly<Record<string, Partial<EndpointObservation>>>;

/** A swarm that has been seen healthy once. */
function settled(count: number, change: SpecChange = {}): SwarmState {
  const spec = specOf({ ...change, endpoints: { count, ...change.endpoints } });
  return plan(initialState(spec), observationOf(swarmOf(count)), START).state;
}

/** Observes the same for a while, each 200 ms; what was done in all of it. */
function during(
  state: SwarmState,
  observe: (now: number) => Observation,
  fromMs: number,
  forMs: number,
): Plan & { at: number[] } {
  const steps: Plan["steps"][number][] = [];
  const at: number[] = [];
  let last = plan(state, observe(fromMs), fromMs);
  for (let now = fromMs; now <= fromMs + forMs; now += 200) {
    last = plan(now === fromMs ? state : last.state, observe(now), now);
    steps.push(...last.steps);
    at.push(...last.steps.map(() => now - fromMs));
  }
  return { ...last, steps, at };
}

const seeing = (count: number, changes: Changes = {}, more: Partial<Observation> = {}) => {
  return () => observationOf(swarmOf(count, changes), more);
};
const kinds = (made: Pick<Plan, "steps">) => made.steps.map((step) => step.kind);

describe("a healthy swarm", () => {
  test("is left alone", () => {
    const state = settled(3);
    assert.deepEqual(kinds(during(state, seeing(3), START, 60_000)), []);
    assert.deepEqual(
      state.endpoints.map((one) => one.phase),
      ["active", "active", "active"],
    );
    assert.equal(summary(state, START).text, "Acting: 3 active of 3 wanted.");
  });

  test("gets the endpoints and ghosts that are missing, once", () => {
    const made = during(settled(4), seeing(3, {}, { ghosts: [] }), START, 5_000);
    assert.deepEqual(
      made.steps.map((step) => [step.kind, "count" in step ? step.count : 0]),
      [
        ["add-endpoints", 1],
        ["replenish-ghosts", 1],
      ],
    );
    const again = plan(
      recordLaunchEnd(recordLaunchEnd(made.state, "ghost"), "endpoint"),
      seeing(3, {}, { ghosts: [] })(),
      START + 6_000,
    );
    assert.deepEqual(kinds(again), ["add-endpoints", "replenish-ghosts"], "a launch that came to nothing is asked for again");
  });

  test("a suspended machine is not an endpoint", () => {
    const ghost = endpointOf("ghost-1", { machine: "suspended", weight: undefined });
    const made = plan(settled(3), observationOf([...swarmOf(3), ghost]), START);
    assert.equal(made.state.endpoints.length, 3);
  });
});

describe("a degraded endpoint", () => {
  const slow: Changes = { "ep-2": { innerLoss: 0.1, innerRttMsP75: 40 } };

  test("has its weight lowered after the hold, and is replaced when it lasts", () => {
    const made = during(settled(5), seeing(5, slow), START, 12_000);
    assert.deepEqual(kinds(made), ["set-weight", "drain-and-replace"]);
    assert.deepEqual(made.at, [2_000, 10_000]);
    const [lowered, replaced] = made.steps;
    assert.ok(lowered?.kind === "set-weight" && lowered.weight < 100 && lowered.weight >= 10);
    assert.match(
      lowered.reason,
      /ep-2 is degraded for 2 s: .*(loss through the tunnel 10 %|round trip.s upper quartile 40 ms).*degraded from/,
    );
    assert.match(replaced?.reason ?? "", /ep-2 has been degraded for 10 s \(replaced after 10 s\)/);
    assert.equal(made.state.endpoints[1]?.phase, "draining");
  });

  test("the worse, the lower its weight", () => {
    const weightAt = (loss: number) => {
      const made = during(settled(5), seeing(5, { "ep-2": { innerLoss: loss } }), START, 2_000);
      const step = made.steps.find((one) => one.kind === "set-weight");
      return step?.kind === "set-weight" ? step.weight : 100;
    };
    const weights = [0.07, 0.13, 0.2, 0.27].map(weightAt);
    assert.deepEqual(
      weights,
      weights.toSorted((a, b) => b - a),
    );
    assert.ok((weights[0] ?? 0) > (weights[3] ?? 0));
  });

  test("gets its weight back once it has been healthy for long enough", () => {
    const lowered = during(settled(5), seeing(5, slow), START, 3_000);
    const held = lowered.state.endpoints[1]?.weight ?? 0;
    const raised = during(lowered.state, seeing(5, { "ep-2": { weight: held } }), START + 3_200, 70_000);
    assert.deepEqual(kinds(raised), ["set-weight"]);
    assert.match(raised.steps[0]?.reason ?? "", new RegExp(`Weight ${held} becomes 100`));
    assert.equal(raised.state.endpoints[1]?.phase, "active");
    assert.ok((raised.at[0] ?? 0) >= 15_000, "not before recoverAfterMs");
  });

  test("that is bad for less than the hold is left alone", () => {
    const blink = (now: number) => observationOf(swarmOf(5, (now - START) % 2_000 < 1_600 ? slow : {}));
    assert.deepEqual(kinds(during(settled(5), blink, START, 60_000)), []);
  });

  test("one missed probe is no reason for anything", () => {
    assert.deepEqual(kinds(during(settled(5), seeing(5, { "ep-2": { innerLoss: 1 / 30 } }), START, 60_000)), []);
  });

  test("a weight the balancer never took is asked for again after the cool-down", () => {
    const made = during(settled(5, { thresholds: { replaceAfterMs: 3_600_000 } }), seeing(5, slow), START, 61_000);
    assert.deepEqual(kinds(made), ["set-weight"]);
    const later = during(made.state, seeing(5, slow), START + 61_200, 5_000);
    assert.deepEqual(kinds(later), ["set-weight"]);
  });
});

describe("a critical endpoint that is alive", () => {
  test("is replaced after the hold", () => {
    const made = during(settled(5), seeing(5, { "ep-1": { cpuPressure: 0.99 } }), START, 5_000);
    assert.deepEqual(kinds(made), ["drain-and-replace"]);
    assert.equal(made.at[0], 2_000);
    assert.match(
      made.steps[0]?.reason ?? "",
      /ep-1 is critical: waiting for the CPU 99 % \(critical from 95 % until below 76 %\), for 2 s/,
    );
  });

  test("rising loss makes it critical before the critical level", () => {
    const rising = (now: number) =>
      observationOf(swarmOf(5, { "ep-1": { innerLoss: Math.min(0.25, 0.07 + (now - START) / 20_000) } }));
    const made = during(settled(5), rising, START, 8_000);
    const drain = made.steps.find((step) => step.kind === "drain-and-replace");
    assert.ok(drain?.kind === "drain-and-replace" && drain.cause === "rising-loss", JSON.stringify(made.steps));
    assert.match(drain.reason, /and rising, from 7 %/);
  });

  test("old heartbeats say nothing of the CPU", () => {
    const made = during(settled(5), seeing(5, { "ep-1": { cpuShare: 1, heartbeatAgeMs: 6_000 } }), START, 20_000);
    assert.deepEqual(kinds(made), []);
  });
});

describe("an overloaded endpoint", () => {
  const RUSH = { endpoints: { count: 3, countMax: 6, capacitySessions: 8 }, budget: { disruptedShareMaxPercent: 34 } };
  const full = (sessions: readonly number[], lossy: Partial<EndpointObservation> = {}) =>
    observationOf(
      swarmOf(
        sessions.length,
        Object.fromEntries(sessions.map((held, at) => [`ep-${at + 1}`, { sessions: held, ...(at === 0 ? lossy : {}) }])),
      ),
    );
  const calm = plan(initialState(specOf(RUSH)), full([4, 4, 4]), START).state;
  const LOSSY = { innerLoss: 0.4, overloaded: true };

  test("is not replaced while the others have no room: more endpoints come first", () => {
    const made = during(calm, () => full([11, 8, 8], LOSSY), START, 20_000);
    assert.deepEqual(kinds(made), ["add-endpoints", "add-endpoints"], "the ghost, and one that is launched");
    const held = made.withheld.find(({ step }) => step.kind === "drain-and-replace");
    assert.match(
      held?.because ?? "",
      /overload: it holds 11 sessions and is to carry 8, and the others have room for 0; more endpoints/,
    );
  });

  test("has what it holds too many led away once there is room, and keeps the rest", () => {
    const before = during(calm, () => full([11, 8, 8], LOSSY), START, 20_000);
    const made = during(before.state, () => full([11, 8, 8, 0], LOSSY), START + 20_200, 5_000);
    assert.deepEqual(
      made.steps.filter(({ kind }) => kind === "relieve").map((step) => "to" in step && step.to),
      [[{ endpoint: "ep-4", sessions: 3 }]],
    );
    assert.ok(made.steps.every(({ kind }) => kind !== "drain-and-replace"));
    const held = made.withheld.find(({ step }) => step.kind === "drain-and-replace");
    assert.match(held?.because ?? "", /what it holds too many is being led away/);
  });

  test("is told from one that loses what it could carry: that is left at once", () => {
    const modeOf = ({ steps }: Plan) => steps.flatMap((step) => (step.kind === "drain-and-replace" ? [step.mode] : []));
    const roomLeft = during(calm, () => full([4, 4, 4], { innerLoss: 0.4 }), START, 5_000);
    assert.deepEqual(modeOf(roomLeft), ["spread"], "the others have room, so that nobody waits for a machine");
    const little = during(calm, () => full([5, 6, 5], { innerLoss: 0.4 }), START, 5_000);
    assert.deepEqual(modeOf(little), ["replace"], "they would be fuller than they should be");
    // Full, but the others have room for all of it.
    const roomy = during(calm, () => full([8, 2, 2], LOSSY), START, 5_000);
    assert.ok(roomy.steps.some((step) => step.kind === "drain-and-replace"));
  });
});

describe("a dead endpoint", () => {
  const ejected = { ejected: true, ejectedAtMs: START, innerMissesInARow: 7, innerLoss: 1 };

  test("is finished at once, once", () => {
    const made = during(settled(3), seeing(3, { "ep-3": ejected }), START, 120_000);
    assert.deepEqual(kinds(made), ["finish-lost"]);
    assert.equal(made.at[0], 0);
    assert.match(
      made.steps[0]?.reason ?? "",
      /The reflex has ejected ep-3: 7 probes in a row missed .* outside of it the machine answers/,
    );
  });

  test("so is one whose machine is gone", () => {
    const made = during(settled(3), seeing(3, { "ep-3": { machine: "gone", innerLoss: 0.1 } }), START, 1_000);
    assert.deepEqual(kinds(made), ["finish-lost"]);
  });

  test("is finished although the swarm is frozen", () => {
    const changes: Changes = { "ep-1": ejected, "ep-2": ejected, "ep-3": { innerLoss: 0.5 } };
    const made = during(settled(3), seeing(3, changes), START, 5_000);
    assert.deepEqual(kinds(made), ["page", "finish-lost", "finish-lost"]);
    assert.match(made.withheld[0]?.because ?? "", /frozen: 3 of 3 endpoints are unhealthy/);
  });

  test("recovered in place, the same ejection is not finished again, unless it stays dead", () => {
    const made = plan(settled(3), seeing(3, { "ep-3": ejected })(), START);
    const recovered = recordDisruptionEnd(made.state, "ep-3", "recovered", START + 3_000);
    const answering = { ...ejected, innerMissesInARow: 0, innerLoss: 0.5 };
    assert.deepEqual(kinds(during(recovered, seeing(3, { "ep-3": answering }), START + 3_000, 60_000)), []);
    assert.deepEqual(kinds(during(recovered, seeing(3, { "ep-3": ejected }), START + 3_000, 11_000)), ["finish-lost"]);
    const anew = { ...ejected, ejectedAtMs: START + 4_000 };
    assert.deepEqual(kinds(plan(recovered, seeing(3, { "ep-3": anew })(), START + 4_000)), ["finish-lost"]);
  });

  test("one that a person has revoked is finished once its sessions are away, however well it looks", () => {
    const revoked = { revoked: true } as const;
    const onItsWay = during(settled(3), seeing(3, { "ep-3": revoked }), START, 60_000);
    assert.ok(!kinds(onItsWay).includes("finish-lost") && !kinds(onItsWay).includes("set-weight"), kinds(onItsWay).join());
    const out = { ...ejected, ...revoked, innerMissesInARow: 0, innerLoss: 0 };
    const made = during(settled(3), seeing(3, { "ep-3": out }), START, 60_000);
    assert.deepEqual(kinds(made), ["finish-lost"]);
    assert.match(made.steps[0]?.reason ?? "", /ep-3 was revoked/);
    const removed = recordDisruptionEnd(made.state, "ep-3", "removed", START + 61_000);
    assert.deepEqual(kinds(plan(removed, seeing(2)(), START + 61_000)), ["add-endpoints"]);
  });

  test("a revoked ghost is ended too, and is no ghost", () => {
    const ghost = endpointOf("ep-9", { machine: "suspended", weight: undefined, revoked: true });
    const look = () => {
      const healthy = observationOf(swarmOf(3));
      return { ...healthy, endpoints: [...healthy.endpoints, ghost] };
    };
    assert.deepEqual(kinds(during(settled(3), look, START, 1_000)), ["finish-lost"]);
  });

  test("a run that failed is tried again after a while", () => {
    const made = plan(settled(3), seeing(3, { "ep-3": ejected })(), START);
    const failed = recordDisruptionEnd(made.state, "ep-3", "failed", START + 1_000);
    const again = during(failed, seeing(3, { "ep-3": ejected }), START + 1_200, 20_000);
    assert.deepEqual(kinds(again), ["finish-lost"]);
    assert.ok((again.at[0] ?? 0) >= 9_000);
  });
});

describe("what must not lead to a move", () => {
  test("heartbeats that stop while the data path is fine: one page, after a while", () => {
    const silent = (now: number) =>
      observationOf(swarmOf(3, { "ep-1": { heartbeatAgeMs: now - START, tunnelUp: false, cpuShare: 1 } }));
    const made = during(settled(3), (now) => (now - START < 5_200 ? seeing(3)() : silent(now)), START, 120_000);
    assert.deepEqual(kinds(made), ["page"]);
    assert.equal(made.at[0], 30_000);
    assert.match(made.steps[0]?.reason ?? "", /No heartbeat from ep-1 for 30 s, while its data path is fine/);
  });

  test("a round trip that rises for all", () => {
    const all = Object.fromEntries([1, 2, 3, 4, 5].map((number) => [`ep-${number}`, { innerRttMsP75: 400 }]));
    assert.deepEqual(kinds(during(settled(5), seeing(5, all), START, 60_000)), []);
  });

  test("a round trip that is the longest where all are long and apart, unless it stands out from these too", () => {
    const busy = (longest: number) =>
      Object.fromEntries([8, 17, 22, 31, longest].map((trip, at) => [`ep-${at + 1}`, { innerRttMsP75: trip }]));
    assert.deepEqual(kinds(during(settled(5), seeing(5, busy(70)), START, 60_000)), []);
    const calm = Object.fromEntries([2, 2.3, 2.1, 2.2, 70].map((trip, at) => [`ep-${at + 1}`, { innerRttMsP75: trip }]));
    assert.ok(kinds(during(settled(5), seeing(5, calm), START, 60_000)).includes("drain-and-replace"));
    assert.ok(kinds(during(settled(5), seeing(5, busy(400)), START, 60_000)).includes("drain-and-replace"));
  });

  test("loss for all: frozen, paged once", () => {
    const all = Object.fromEntries([1, 2, 3, 4, 5].map((number) => [`ep-${number}`, { innerLoss: 0.4 }]));
    const made = during(settled(5), seeing(5, all), START, 60_000);
    assert.deepEqual(kinds(made), ["page"]);
    assert.equal(summary(made.state, START).mode, "frozen");
    const over = plan(made.state, seeing(5)(), START + 61_000);
    assert.equal(over.state.frozenSinceMs, undefined);
  });

  test("a reflex that does not answer: nothing but a page, and signals hold anew afterwards", () => {
    const bad: Changes = { "ep-1": { innerLoss: 0.5 }, "ep-2": { ejected: true, innerMissesInARow: 9, machine: "gone" } };
    const made = during(settled(12), seeing(12, bad, { reflexAnswers: false }), START, 60_000);
    assert.deepEqual(kinds(made), ["page"]);
    assert.equal(made.at[0], 10_000);
    const back = during(made.state, seeing(12, { "ep-1": { innerLoss: 0.5 } }), START + 60_200, 1_800);
    assert.deepEqual(kinds(back), []);
  });

  test("the stop switch: pages only; what was wanted is shown as withheld", () => {
    const bad: Changes = {
      "ep-1": { innerLoss: 0.5 },
      "ep-2": { ejected: true, innerMissesInARow: 9 },
      "ep-3": { heartbeatAgeMs: 40_000 },
    };
    const stopped = stop(settled(12), "ada", "maintenance", START);
    const made = during(stopped, seeing(11, bad, { ghosts: [] }), START, 60_000);
    assert.deepEqual(kinds(made), ["page"]);
    assert.deepEqual(made.withheld.map((one) => one.step.kind).toSorted(), [
      "add-endpoints",
      "drain-and-replace",
      "finish-lost",
      "replenish-ghosts",
      "set-weight",
    ]);
    assert.match(made.withheld[0]?.because ?? "", /stopped by ada: maintenance/);
    const resumed = plan(resume(made.state, START + 61_000), seeing(11, bad)(), START + 61_000);
    assert.deepEqual(kinds(resumed), ["finish-lost", "add-endpoints"], "a critical one has to hold anew");
  });
});

describe("a person's request", () => {
  test("is carried out first, within the budget", () => {
    const asked = requestReplace(settled(5), "ep-4", "ada");
    const made = plan(asked, seeing(5)(), START);
    assert.deepEqual(made.steps, [
      {
        kind: "drain-and-replace",
        endpoint: "ep-4",
        mode: "replace",
        cause: "requested",
        reason: "ada asked for ep-4 to be replaced.",
      },
    ]);
    assert.deepEqual(made.state.requested, []);
    const second = plan(requestDrain(made.state, "ep-5", "ada"), seeing(5)(), START + 1_000);
    assert.deepEqual(kinds(second), []);
    assert.match(second.withheld[0]?.because ?? "", /1 of at most 1 endpoints are being disrupted already/);
    assert.equal(second.state.requested.length, 1, "it waits");
    const ended = recordDisruptionEnd(second.state, "ep-4", "replaced", START + 2_000);
    assert.match(plan(ended, seeing(5)(), START + 2_000).withheld[0]?.because ?? "", /within the last 600 s/);
    const replaced = observationOf(swarmOf(6).filter((one) => one.endpoint !== "ep-4"));
    assert.deepEqual(kinds(plan(ended, replaced, START + 602_000)), ["drain-and-replace"]);
  });

  test("is refused for an unknown endpoint, one that is under way, and twice", () => {
    const state = settled(3);
    const code = (attempt: () => unknown) => {
      try {
        attempt();
      } catch (error) {
        return (error as { code?: string }).code;
      }
      return "none";
    };
    assert.equal(
      code(() => requestDrain(state, "ep-9", "ada")),
      "UNKNOWN_ENDPOINT",
    );
    const once = requestDrain(state, "ep-1", "ada");
    assert.equal(
      code(() => requestReplace(once, "ep-1", "ada")),
      "ALREADY_UNDER_WAY",
    );
    assert.throws(
      () => requestReplace(once, "ep-1", "ada"),
      /ada has asked to drain it, which has not begun; `foreshift explain ep-1`/,
    );
    const begun = plan(once, seeing(3)(), START).state;
    assert.equal(
      code(() => requestDrain(begun, "ep-1", "ada")),
      "ALREADY_UNDER_WAY",
    );
    assert.equal(
      code(() => requestDrain(stop(state, "ada", "x", START), "ep-1", "ada")),
      "AUTOMATION_STOPPED",
    );
  });

  test("waits when the others could not carry the sessions", () => {
    const full = Object.fromEntries([1, 2, 3].map((number) => [`ep-${number}`, { sessions: 450 }]));
    const asked = requestReplace(settled(3), "ep-1", "ada");
    const without = plan(asked, seeing(3, full, { ghosts: [] })(), START);
    assert.match(
      without.withheld[0]?.because ?? "",
      /1000 sessions could be carried afterwards, and there are 1350; no ghost is free/,
    );
    assert.deepEqual(without.steps, [{ kind: "replenish-ghosts", count: 2, reason: "0 of 2 ghosts are suspended and ready." }]);
    assert.deepEqual(kinds(plan(asked, seeing(3, full)(), START)), ["drain-and-replace"]);
    assert.match(
      plan(requestDrain(settled(3), "ep-1", "ada"), seeing(3, full)(), START).withheld[0]?.because ?? "",
      /capacity/,
    );
  });

  test("a drain takes no ghost from a replacement that needs one", () => {
    const full = Object.fromEntries([1, 2, 3, 4].map((number) => [`ep-${number}`, { sessions: 300 }]));
    const asked = requestReplace(requestDrain(settled(4), "ep-1", "ada"), "ep-2", "ada");
    const both = {
      ...asked,
      spec: { ...asked.spec, budget: { ...asked.spec.budget, disruptedShareMaxPercent: 100, windowShareMaxPercent: 100 } },
    };
    assert.deepEqual(kinds(plan(both, seeing(4, full)(), START)).slice(0, 2), ["drain-and-replace", "drain-and-replace"]);
  });

  test("a drain is refused at once when the others could not carry the sessions, or nobody were left", () => {
    const code = (state: SwarmState, count: number, sessions: number) => {
      const each = Object.fromEntries(Array.from({ length: count }, (_, at) => [`ep-${at + 1}`, { sessions }]));
      try {
        checkDrain(state, "ep-1", seeing(count, each)());
      } catch (error) {
        return (error as { code?: string }).code;
      }
      return "none";
    };
    assert.equal(code(settled(3), 3, 300), "none");
    assert.equal(code(settled(3), 3, 400), "CAPACITY_EXCEEDED");
    assert.equal(code(settled(1), 1, 0), "CAPACITY_EXCEEDED");
  });

  test("the last one serving is not drained", () => {
    const made = plan(requestDrain(settled(1), "ep-1", "ada"), seeing(1, { "ep-1": { sessions: 0 } })(), START);
    assert.match(made.withheld[0]?.because ?? "", /no other endpoint would be left/);
  });
});

describe("the state", () => {
  test("a spec of another name or address is refused, another budget is taken", () => {
    const state = settled(3);
    assert.throws(() => applySpec(state, { ...state.spec, name: "other" }), /name is not valid: got other; it is lab/);
    assert.throws(() => applySpec(state, { ...state.spec, vip: { v4: "198.19.0.9", port: 51_820 } }), /vip.v4/);
    assert.equal(applySpec(state, specOf({ budget: { windowMs: 5_000 } })).spec.budget.windowMs, 5_000);
  });

  test("a replaced endpoint is retired until it is seen no more", () => {
    const begun = plan(requestReplace(settled(3), "ep-1", "ada"), seeing(3)(), START).state;
    const ended = recordDisruptionEnd(begun, "ep-1", "replaced", START + 1_000);
    assert.equal(ended.endpoints[0]?.phase, "retired");
    assert.equal(recordDisruptionEnd(ended, "ep-1", "failed", START + 2_000).endpoints[0]?.phase, "retired", "ended once");
    const others = observationOf([...swarmOf(3).slice(1), endpointOf("ep-4")]);
    const after = plan(ended, others, START + 2_000);
    assert.deepEqual(
      after.state.endpoints.map((one) => one.endpoint),
      ["ep-2", "ep-3", "ep-4"],
    );
    assert.deepEqual(kinds(after), []);
  });

  test("the next moment to decide is when the hold is over", () => {
    const made = plan(settled(3), seeing(3, { "ep-1": { innerLoss: 0.1 } })(), START + 500);
    assert.equal(made.nextAtMs, START + 2_500);
  });

  test("or the cool-down, or the time to try again", () => {
    const sick = seeing(5, { "ep-2": { innerLoss: 0.1 } });
    const lowered = during(settled(5, { thresholds: { replaceAfterMs: 3_600_000 } }), sick, START, 2_000);
    assert.deepEqual(kinds(lowered), ["set-weight"]);
    const well = seeing(5, { "ep-2": { weight: 60, heartbeatAgeMs: undefined } });
    const recovered = during(lowered.state, well, START + 2_200, 40_000);
    assert.equal(recovered.nextAtMs, START + 62_000);
    const dead = seeing(3, { "ep-3": { ejected: true, ejectedAtMs: START, innerMissesInARow: 7 } });
    const failed = recordDisruptionEnd(plan(settled(3), dead(), START).state, "ep-3", "failed", START + 1_000);
    assert.equal(during(failed, dead, START + 1_000, 9_000).nextAtMs, START + 11_000);
  });

  test("a member that never becomes healthy is replaced", () => {
    const spec = specOf({ endpoints: { count: 4 } });
    const sick = seeing(4, { "ep-4": { innerLoss: 0.5 } });
    const made = during(initialState(spec), sick, START, 181_000);
    assert.deepEqual(kinds(made), ["page", "drain-and-replace"]);
    assert.equal(made.at[1], 180_000);
  });
});
