// Ghosts that are too old: replaced at the moment at which they are, once, and only where the swarm file says how old they may get.
import assert from "node:assert/strict";
import { test } from "node:test";
import { agedGhosts } from "../../models/ghosts.ts";
import { initialState, plan } from "../../models/plan.ts";
import { nextDecisionAtMs } from "../../models/wake.ts";
import { observationOf, specOf, swarmOf } from "./fixtures.ts";

const AGE_MAX_MS = 3_600_000;
const MADE_AT_MS = 1_000_000;

const seen = (now: number) => ({
  ...observationOf(swarmOf(3), {
    ghosts: ["ep-8", "ep-9"],
    ghostsSinceMs: { "ep-8": MADE_AT_MS, "ep-9": MADE_AT_MS + 60_000 },
  }),
  atMs: now,
});

function settled(ghostAgeMaxMs?: number) {
  const endpoints = { count: 3, ghosts: 2, ...(ghostAgeMaxMs === undefined ? {} : { ghostAgeMaxMs }) };
  return plan(initialState(specOf({ endpoints })), seen(MADE_AT_MS), MADE_AT_MS).state;
}

test("a ghost is replaced when it has reached its age, and no other with it", () => {
  const at = MADE_AT_MS + AGE_MAX_MS;
  assert.deepEqual(plan(settled(AGE_MAX_MS), seen(at - 1), at - 1).steps, []);
  const [step, ...others] = plan(settled(AGE_MAX_MS), seen(at), at).steps;
  assert.ok(step?.kind === "replenish-ghosts");
  assert.deepEqual([step.count, step.replaces, others], [1, ["ep-8"], []]);
  assert.match(step.reason, /Too old, and to be replaced: ep-8\./);
});

test("the swarm looks again at the very moment, and not at all without an age", () => {
  const next = (ageMaxMs?: number) =>
    nextDecisionAtMs(settled(ageMaxMs), seen(MADE_AT_MS), MADE_AT_MS) ?? Number.POSITIVE_INFINITY;
  assert.ok(next(AGE_MAX_MS) <= MADE_AT_MS + AGE_MAX_MS);
  const end = MADE_AT_MS + 1_000 * AGE_MAX_MS;
  assert.deepEqual(plan(settled(), seen(end), end).steps, []);
});

test("of a ghost that nobody knows the age of, nothing is said", () => {
  assert.deepEqual(agedGhosts(observationOf(swarmOf(3), { ghosts: ["ep-8"] }), AGE_MAX_MS, MADE_AT_MS + AGE_MAX_MS), []);
});
