/** The anomaly backtest on small directories of either layout, and what it says of ones that are wrong. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import { backtestAnomaly } from "../../backtest/anomaly.ts";

async function directory(context: TestContext, files: Record<string, string | Buffer>): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), "foreshift-anomaly-"));
  context.after(() => rm(root, { recursive: true }));
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, name)), { recursive: true });
    await writeFile(join(root, name), content);
  }
  return root;
}

/** Two weeks of five minutes with a wiggle, and an outburst of an hour on day nine. */
const ROWS = 4032;
const OUTBURST = 2600;
const value = (row: number) => 10 + ((row * 7919) % 97) / 97 + (row >= OUTBURST && row < OUTBURST + 12 ? 40 : 0);
const time = (row: number) => new Date(Date.UTC(2024, 0, 1) + row * 300_000).toISOString().slice(0, 19).replace("T", " ");
const BODY = Array.from({ length: ROWS }, (_, row) => `${time(row)},${value(row)}`).join("\n");
const BENCHMARK = {
  "kind/one.csv": `timestamp,value\n${BODY}\n`,
  "labels/combined_windows.json": JSON.stringify({
    "kind/one.csv": [[`${time(OUTBURST - 100)}.000000`, `${time(OUTBURST + 100)}.000000`]],
    "kind/absent.csv": [],
  }),
};

test("an outburst in the benchmark's layout is found at once, and nothing else", async (context) => {
  const report = await backtestAnomaly(await directory(context, BENCHMARK));
  assert.deepEqual([report.windows, report.eventRecall, report.eventPrecision, report.delayRowsMean], [1, 1, 1, 100]);
  assert.equal(report.delayMinutesMean, 500);
  // Row 100 of a window of 201: 2 sigmoid(5 * 101 / 201) - 1 = 0.8500 of 0.9866; half of what a window is worth is not missing it.
  assert.ok(Math.abs((report.standard ?? 0) - 93.08) < 0.05, `${report.standard}`);
});

test("the same outburst as a table of value and label", async (context) => {
  const rows = Array.from({ length: ROWS }, (_, row) => `${value(row)},${row >= OUTBURST && row < OUTBURST + 12 ? 1 : 0}`);
  const report = await backtestAnomaly(await directory(context, { "a.csv.gz": gzipSync(`value,label\n${rows.join("\n")}\n`) }));
  assert.deepEqual([report.windows, report.eventRecall, report.eventPrecision], [1, 1, 1]);
  assert.ok((report.delayRowsMean ?? 99) <= 2 && (report.standard ?? 0) > 99, `${report.delayRowsMean} ${report.standard}`);
});

test("a directory without anomalies has no score", async (context) => {
  const labels = JSON.stringify({ "kind/one.csv": [] });
  const report = await backtestAnomaly(await directory(context, { ...BENCHMARK, "labels/combined_windows.json": labels }));
  assert.deepEqual([report.standard, report.eventRecall, report.windows], [null, null, 0]);
});

test("what is wrong is named by file and line", async (context) => {
  const refuses = async (files: Record<string, string>, pattern: RegExp) => {
    await assert.rejects(backtestAnomaly(await directory(context, files)), pattern);
  };
  await refuses({}, /no series is in it; expected/);
  await refuses({ "a.csv": "value,label\n1,0\nx,0\n" }, /a\.csv; line 3, column value: "x" is not a number/);
  await refuses({ "a.csv": "value,label\n1,2\n" }, /line 2, column label: expected 0 or 1, got "2"/);
  await refuses({ "a.csv": "value\n1\n" }, /no column "label"/);
  await refuses({ ...BENCHMARK, "labels/combined_windows.json": "{" }, /combined_windows\.json; it is not JSON/);
  await refuses({ ...BENCHMARK, "labels/combined_windows.json": "{}" }, /no entry for kind\/one\.csv/);
  await refuses(
    { ...BENCHMARK, "kind/one.csv": "timestamp,value\nnoon,1\n" },
    /line 2, column timestamp: "noon" is not a time/,
  );
});
