// What a retraining learns from: failures and actions as the audit trail tells them, and weights that leave out what is not known.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { UnitTable } from "../../models/failure/table.ts";
import { LIMITS } from "../../models/limits.ts";
import { type Happened, happenedBy, type TrailRow } from "../../models/retraining/happened.ts";
import { type Piece, piecesOf } from "../../models/retraining/lives.ts";
import { wantedSchedules } from "../../models/retraining/schedule.ts";
import { failureTimes, learnedFrom, unseenSince, weighedRows } from "../../models/retraining/training-set.ts";
import { holds } from "../support/property.ts";
import { specOf } from "./fixtures.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const WINDOW_MS = 10 * MINUTE_MS;
const START_MS = 29_000_000 * MINUTE_MS;
const at = (minute: number) => START_MS + minute * MINUTE_MS;

const NOTHING: Happened = { outages: [], mitigations: [] };

function rowOf(minute: number, action: string, change: Partial<TrailRow> = {}): TrailRow {
  return { atMs: at(minute), action, endpoint: "ep-1", outcome: "done", runId: "run-1", details: {}, ...change };
}

function lossAt(minute: number, backMinute: number, endpoint = "ep-1"): TrailRow {
  const details = { ejectedAtMs: at(minute), startedAtMs: at(minute) + 300, servedAgainAtMs: at(backMinute), replacement: "" };
  return rowOf(backMinute, "analyse the loss", { endpoint, details });
}

/** One row a minute of each piece, as the fleet's telemetry has it; the last minute before a failure is there. */
function tableOf(
  pieces: readonly Piece[],
  heardUntilMs = Number.POSITIVE_INFINITY,
): { table: UnitTable; lives: readonly Piece[] } {
  const rows = pieces.flatMap((piece, unit) => {
    const endMs = Math.min(piece.failedAtMs ?? piece.untilMs, heardUntilMs);
    const minutes = Math.max(0, Math.floor((endMs - piece.fromMs) / MINUTE_MS));
    return Array.from({ length: minutes }, (_, minute) => ({ unit, piece, timeMs: piece.fromMs + (minute + 1) * MINUTE_MS }));
  });
  const table = {
    columns: ["memory"],
    rows: rows.length,
    cells: Float64Array.from(rows, (_, row) => row),
    unit: Int32Array.from(rows, ({ unit }) => unit),
    units: pieces.length,
    time: Float64Array.from(rows, ({ timeMs }) => timeMs / MINUTE_MS),
    timeToFailure: Float64Array.from(rows, ({ piece, timeMs }) =>
      piece.failedAtMs === undefined ? Number.POSITIVE_INFINITY : (piece.failedAtMs - timeMs) / MINUTE_MS,
    ),
  };
  return { table, lives: pieces };
}

/** Weight of each minute that has one, counted from the start. */
function weightsOf(happened: Happened, minutes: number, controlShare = 0.1): ReadonlyMap<number, number> {
  const heard = [{ endpoint: "ep-1", fromMs: at(0), untilMs: at(minutes) }];
  const { table, lives } = tableOf(piecesOf({ heard, happened, windowMs: WINDOW_MS, rowsMax: 1e6 }));
  const weights = weighedRows(table, lives, WINDOW_MS / MINUTE_MS, controlShare);
  return new Map([...weights].map((weight, row) => [(table.time[row] ?? 0) - START_MS / MINUTE_MS, weight]));
}

function range(from: number, until: number): number[] {
  return Array.from({ length: until - from }, (_, step) => from + step);
}

describe("what happened", () => {
  test("a loss is a failure from its ejection until the endpoint serves again", () => {
    const { outages, mitigations } = happenedBy([lossAt(60, 62)]);
    assert.deepEqual(outages, [{ endpoint: "ep-1", fromMs: at(60), untilMs: at(62), isFailure: true }]);
    assert.deepEqual(mitigations, []);
  });

  test("an endpoint that was replaced, or could not be recovered, does not come back", () => {
    const replaced = lossAt(60, 62);
    const details = { ...replaced.details, replacement: "ep-9" };
    for (const row of [
      { ...replaced, details },
      { ...replaced, outcome: "failed" },
    ]) {
      assert.equal(happenedBy([row]).outages[0]?.untilMs, Number.POSITIVE_INFINITY);
    }
  });

  test("a drain takes an endpoint out from its first step on, for the cause that its last row names", () => {
    const begun = rowOf(30, "drain", { details: { weight: 0, draining: true } });
    const ended = rowOf(33, "drain and replace", { details: { cause: "predicted-memory", replacement: "ep-9" } });
    const { outages, mitigations } = happenedBy([begun, ended]);
    assert.deepEqual(outages, [{ endpoint: "ep-1", fromMs: at(30), untilMs: Number.POSITIVE_INFINITY, isFailure: false }]);
    assert.deepEqual(mitigations, [{ endpoint: "ep-1", atMs: at(30), isControl: false }]);
    const asked = happenedBy([begun, { ...ended, details: { cause: "requested" } }]);
    assert.deepEqual([asked.outages.length, asked.mitigations.length], [1, 0]);
    const putBack = happenedBy([begun, { ...ended, outcome: "failed" }]);
    assert.equal(putBack.outages[0]?.untilMs, at(33));
  });

  test("weights count only where a prediction lowered them", () => {
    const lowered = (cause: string | undefined) => happenedBy([rowOf(5, "set weight", { details: { cause } })]).mitigations;
    assert.deepEqual(lowered(undefined), []);
    assert.deepEqual(lowered("predicted"), [{ endpoint: "ep-1", atMs: at(5), isControl: false }]);
    assert.deepEqual(lowered("control-slice"), [{ endpoint: "ep-1", atMs: at(5), isControl: true }]);
  });
});

describe("what is known of a row", () => {
  test("everything before a failure, and after it again", () => {
    const weights = weightsOf(happenedBy([lossAt(60, 62)]), 200);
    assert.ok(range(1, 61).every((minute) => weights.get(minute) === 1));
    assert.equal(weights.get(61), undefined, "it was out of service");
    assert.ok(range(63, 190).every((minute) => weights.get(minute) === 1));
  });

  test("not what came of the last window of a life that was cut off, or goes on", () => {
    const goesOn = weightsOf(NOTHING, 100);
    assert.ok(range(1, 91).every((minute) => goesOn.get(minute) === 1));
    assert.ok(range(91, 101).every((minute) => goesOn.get(minute) === 0));
    const drained = happenedBy([rowOf(50, "drain", { details: { cause: "requested" } })]);
    const cut = weightsOf(drained, 100);
    assert.ok(range(1, 41).every((minute) => cut.get(minute) === 1));
    assert.ok(range(41, 51).every((minute) => cut.get(minute) === 0));
    assert.equal(cut.get(51), undefined);
  });

  test("not what a weight that was lowered on a prediction may have prevented", () => {
    const weights = weightsOf(happenedBy([rowOf(50, "set weight", { details: { cause: "predicted" } })]), 200);
    assert.ok(range(1, 41).every((minute) => weights.get(minute) === 1));
    assert.ok(range(41, 61).every((minute) => weights.get(minute) === 0));
    assert.ok(
      range(61, 180).every((minute) => weights.get(minute) === 1),
      "the action is over",
    );
  });

  test("in the control slice what came counts for all that could not be seen", () => {
    const lowered = rowOf(50, "set weight", { details: { cause: "control-slice" } });
    const weights = weightsOf(happenedBy([lowered, lossAt(57, 59)]), 200, 0.1);
    // It is the only one with an alarm, so half of it stands for itself and half for the ten of the share.
    assert.ok(range(41, 58).every((minute) => weights.get(minute) === 5.5));
    assert.ok(range(1, 41).every((minute) => weights.get(minute) === 1));
  });
});

describe("pieces of lives", () => {
  test("no cut comes between a failure and the two windows before it, and none is longer than it may be", (context) => {
    const property = fc.property(
      fc.integer({ min: 1, max: 4_000 }),
      fc.uniqueArray(fc.integer({ min: 1, max: 4_000 }), { maxLength: 6 }),
      fc.string({ minLength: 1, maxLength: 6 }),
      (minutes, failures, endpoint) => {
        const rows = failures.toSorted((a, b) => a - b).map((minute) => lossAt(minute, minute + 2, endpoint));
        const heard = [{ endpoint, fromMs: at(0), untilMs: at(minutes) }];
        const pieces = piecesOf({ heard, happened: happenedBy(rows), windowMs: WINDOW_MS, rowsMax: 1e6 });
        let beforeMs = at(0);
        for (const { fromMs, untilMs, failedAtMs } of pieces) {
          assert.ok(fromMs >= beforeMs && untilMs > fromMs && untilMs <= at(minutes));
          assert.ok(untilMs - fromMs <= LIMITS.training.pieceMs + 2 * WINDOW_MS);
          if (failedAtMs !== undefined) assert.equal(failedAtMs, untilMs);
          beforeMs = untilMs;
        }
        for (const { fromMs, failedAtMs } of pieces) {
          const life = pieces.filter((other) => other.untilMs === fromMs);
          if (failedAtMs !== undefined && life.length > 0) assert.ok(failedAtMs - fromMs >= 2 * WINDOW_MS);
        }
      },
    );
    holds(context, property, 300);
  });

  test("a fleet too large is drawn from; what failed stays, and the rest stands for what is left out", () => {
    const names = range(1, 41).map((number) => `ep-${number}`);
    const heard = names.map((endpoint) => ({ endpoint, fromMs: at(0), untilMs: at(4_000) }));
    const happened = happenedBy(["ep-3", "ep-7"].map((endpoint) => lossAt(2_000, 2_002, endpoint)));
    const input = { heard, happened, windowMs: WINDOW_MS, rowsMax: 40_000 };
    const pieces = piecesOf(input);
    assert.deepEqual(pieces, piecesOf(input), "always the same ones");
    const minutes = (some: readonly Piece[]) =>
      some.reduce((sum, { fromMs, untilMs, keptShare }) => sum + (untilMs - fromMs) / MINUTE_MS / keptShare, 0);
    assert.equal(pieces.filter(({ failedAtMs }) => failedAtMs !== undefined).length, 2);
    const rows = pieces.reduce((sum, { fromMs, untilMs }) => sum + (untilMs - fromMs) / MINUTE_MS, 0);
    assert.ok(rows > 35_000 && rows <= 40_000, `${rows} rows`);
    assert.ok(Math.abs(minutes(pieces) / 160_000 - 1) < 0.01, `they stand for ${minutes(pieces)} of 160,000`);
  });
});

describe("the stretch that nobody has seen", () => {
  const failures = range(1, 21).map((number) => number * 100);

  test("holds the newest failures, and begins a window before the first of them", () => {
    assert.deepEqual(unseenSince(failures, 10, undefined, 10), { from: 1_490, failures: 6 });
  });

  test("begins after everything that the champion has learned from", () => {
    assert.deepEqual(unseenSince(failures, 10, 1_600, 10), { from: 1_610, failures: 4 });
    assert.match(
      JSON.stringify(unseenSince(failures, 10, 1_800, 10)),
      /only 2 failures that the model in use has not learned from/,
    );
  });

  test("is none where there are too few failures, and it is said how many are wanted", () => {
    const { tooFew = "" } = unseenSince(failures.slice(0, 9), 10, undefined, 10) as { tooFew?: string };
    assert.match(tooFew, /9 failures.*10 are wanted \(foresight\.retrain\.failuresMin\)/);
  });

  test("is not learned from: no row, and no label that it decides", () => {
    const rows = range(1, 12).map((number) => lossAt(number * 300, number * 300 + 2));
    const heard = [{ endpoint: "ep-1", fromMs: at(0), untilMs: at(3_500) }];
    const { table, lives } = tableOf(piecesOf({ heard, happened: happenedBy(rows), windowMs: WINDOW_MS, rowsMax: 1e6 }));
    const set = { table, weights: weighedRows(table, lives, 10, 0.1) };
    const times = failureTimes(set, 10);
    assert.deepEqual(
      times,
      rows.map((_, number) => START_MS / MINUTE_MS + (number + 1) * 300),
    );
    const unseen = unseenSince(times, 10, undefined, 5);
    assert.ok("from" in unseen);
    const learned = learnedFrom(set, unseen.from, 10);
    const decided = Math.max(...learned.table.time) + 10;
    assert.ok(decided <= unseen.from && learned.table.rows > 2_000);
    assert.ok(learned.table.units === new Set(learned.table.unit).size);
  });
});

test("a Schedule is wanted for each swarm that trains, and stands still while a stop switch holds it", () => {
  const spec = specOf({ foresight: { retrain: { everyMs: HOUR_MS } } });
  assert.deepEqual(wantedSchedules([spec], []), [{ swarm: "lab", everyMs: HOUR_MS, pausedBecause: undefined }]);
  for (const scope of ["*", "lab"]) {
    const [one] = wantedSchedules([spec], [{ scope, by: "ada", reason: "looking" }]);
    assert.match(one?.pausedBecause ?? "", /^Stopped by the stop switch; (?!.*(ada|looking))/);
  }
  assert.equal(wantedSchedules([spec], [{ scope: "other", by: "ada", reason: "" }])[0]?.pausedBecause, undefined);
  assert.deepEqual(wantedSchedules([specOf({ foresight: { mode: "off" } })], []), []);
  assert.deepEqual(wantedSchedules([specOf({ foresight: { retrain: { mode: "off" } } })], []), []);
});
