/** The backtest of the failure engine on files: what it prints, and what it says of files that are not as they should be. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { backtestFailure } from "../../backtest/failure.ts";
import { readUnitTable } from "../../backtest/unit-table.ts";
import { fromModelFile } from "../../models/failure/model-file.ts";
import { Random } from "../../models/failure/random.ts";
import type { UnitTable } from "../../models/failure/table.ts";
import { WEAR_WINDOW, wearTable } from "../support/wear.ts";

let folder: string;
let train: string;
let unseen: string;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "fs-test-"));
  train = await written("train.csv.gz", lines(wearTable({ units: 30, seed: 1, missingShare: 0.02 })));
  unseen = await written("test.csv.gz", lines(wearTable({ units: 15, seed: 2, missingShare: 0.05 })));
});

after(async () => {
  await rm(folder, { recursive: true, force: true });
});

function lines(table: UnitTable): string[] {
  const shown = (value: number) => (Number.isFinite(value) ? String(value) : "");
  const body = Array.from({ length: table.rows }, (_, row) => {
    const cells = table.cells.subarray(row * table.columns.length, (row + 1) * table.columns.length);
    const left = table.timeToFailure[row] ?? Number.NaN;
    return [`m-${table.unit[row]}`, table.time[row], left > 60 ? "" : left, ...Array.from(cells, shown)].join(",");
  });
  return [["unit", "time", "ttf", ...table.columns].join(","), ...body];
}

async function written(name: string, text: readonly string[]): Promise<string> {
  const file = join(folder, name);
  await writeFile(file, gzipSync(`${text.join("\n")}\n`));
  return file;
}

test("it prints how well units are foreseen that it was not trained on, and writes the model", async () => {
  const modelOut = join(folder, "model.json");
  const printed = await backtestFailure({ train, test: unseen, window: WEAR_WINDOW, seed: 1, modelOut });
  assert.ok((printed.ap ?? 0) > 0.8 && (printed.rocAuc ?? 0) > 0.9, JSON.stringify(printed));
  assert.ok((printed.brier ?? 1) < (printed.brierOfBaseRate ?? 0) / 2);
  assert.equal(printed.leadTime.failures, 15);
  assert.ok(printed.leadTime.foreseen >= 12 && (printed.operatingPoint.f1 ?? 0) > 0.6, JSON.stringify(printed));
  assert.equal(
    printed.calibration.bins.reduce((sum, { rows }) => sum + rows, 0),
    printed.rows,
  );
  for (const value of [printed.trainSeconds, printed.predictMicros, printed.rssMb]) assert.ok((value ?? 0) > 0);
  assert.equal(fromModelFile(JSON.parse(await readFile(modelOut, "utf8"))).origin.units, 30);
});

test("neither the order of the rows nor a column too many changes the table", async () => {
  const [head = "", ...body] = lines(wearTable({ units: 5, seed: 4 }));
  const random = new Random(1);
  const order = body.map((line) => ({ line: `${line},9`, at: line.startsWith("m-0,1,") ? -1 : random.next() }));
  // The first unit met keeps its number; the others may not, so they are compared by their rows.
  const shuffled = await written("shuffled.csv.gz", [
    `${head},more`,
    ...order.sort((a, b) => a.at - b.at).map(({ line }) => line),
  ]);
  const straight = await readUnitTable(await written("straight.csv.gz", [head, ...body]));
  const table = await readUnitTable(shuffled, straight.columns);
  assert.deepEqual(table.columns, straight.columns);
  assert.deepEqual(table.time.slice().sort(), straight.time.slice().sort());
  const first = (one: UnitTable) => one.cells.slice(0, one.unit.lastIndexOf(0) * one.columns.length);
  assert.deepEqual(first(table), first(straight));
});

test("a file that is not as it should be is named, with the line and what was found", async () => {
  const refuses = async (name: string, text: readonly string[], why: RegExp) => {
    const file = await written(name, text);
    await assert.rejects(readUnitTable(file), { code: "INVALID_FIELD", message: why });
  };
  await refuses("a.csv.gz", ["unit,time,x", "1,2,3"], /no column "ttf"/);
  await refuses("b.csv.gz", ["unit,time,ttf,x", "1,2,3,x"], /line 2, column x: "x" is not a number/);
  await refuses("c.csv.gz", ["unit,time,ttf,x", "1,2,3,4", "1,2,3"], /line 3 has 3 cells, expected 4/);
  await refuses("d.csv.gz", ["unit,time,ttf,x", "1,2,-3,4"], /ttf: -3 is negative/);
  await refuses("e.csv.gz", ["unit,time,ttf,x"], /no rows/);
  await refuses("f.csv.gz", ["unit,time,ttf", "1,2,3"], /no numeric column/);
  await refuses("g.csv.gz", ["unit,time,ttf,x", "1,,3,4"], /line 2 has no time/);
  const other = await written("h.csv.gz", ["unit,time,ttf,x", "1,2,3,4"]);
  await assert.rejects(backtestFailure({ train, test: other, window: WEAR_WINDOW, seed: 1 }), { message: /no column "op1"/ });
  await assert.rejects(backtestFailure({ train, test: unseen, window: 0, seed: 1 }), { message: /--window/ });
  await assert.rejects(backtestFailure({ train: other, test: other, window: 1, seed: 1 }), { message: /nothing to learn/ });
});
