/**
 * `npm test`: set-up, the static checks, then the suites from the quick to the slow. Stops at the first stage that fails and
 * ends with one line that counts everything. Arguments narrow it: names of stages (`unit`, `lint`) or test files.
 */
import { spawn } from "node:child_process";
import { existsSync, globSync } from "node:fs";
import { join, sep } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { SETUP_LIMITS } from "./limits.ts";
import { paths } from "./paths.ts";
import { setUp, setUpMachines } from "./set-up.ts";

interface Counts {
  readonly passed: number;
  readonly failed: number;
}

interface Stage {
  readonly name: string;
  readonly run: () => Promise<Counts>;
}

const PROJECT = paths().project;

const CHECKS: Readonly<Record<string, readonly string[]>> = {
  format: ["biome", "check", "--error-on-warnings", "."],
  lint: ["oxlint", "--type-aware", "--deny-warnings"],
  types: ["tsc", "--noEmit"],
  unused: ["knip"],
};

/**
 * Files at a time. Those of workflows mostly wait, and nothing in them is measured; where real processes wait for each other for a second,
 * or WireGuard looks dead when it gets no CPU for a fifth of one, a file has the machine to itself, but for those named in `SIDE_BY_SIDE`.
 */
const SUITES: Readonly<Record<string, number>> = {
  unit: 2,
  setup: 1,
  activities: 1,
  workflows: 3,
  replay: 1,
  lab: 1,
};

/** Files of such suites in which nothing is bound to a second and no packets are carried: two at a time, after the others. */
const SIDE_BY_SIDE = new Set(
  [
    "demand",
    "dynamic-dns",
    "ec2",
    "ec2-enrolment",
    "front-doors",
    "learned-risk",
    "models",
    "payload-codec",
    "retraining",
    "store",
    "telemetry-store",
    "vault-policies",
  ].map((name) => `test/activities/${name}.test.ts`),
);

/** Begun before the others of their suite, so that none is still at work when all else is done. */
const LONGEST_FIRST = [
  "test/unit/fleet-backtest.test.ts",
  "test/activities/retraining.test.ts",
  "test/activities/payload-codec.test.ts",
  "test/workflows/rotate-preshared.test.ts",
  "test/workflows/kill-worker.test.ts",
  "test/workflows/drain-and-replace.test.ts",
  "test/workflows/swarm.test.ts",
];

async function main(filters: readonly string[]): Promise<boolean> {
  const files = filters.filter((filter) => filter.endsWith(".test.ts") && existsSync(filter));
  const stages = files.length > 0 ? [suite("files", files, 1)] : chosen(filters);
  const total = { passed: 0, failed: 0 };
  try {
    await setUp();
    await bringMachines(process.env);
    for (const stage of stages) {
      console.log(`\n── ${stage.name}`);
      const counts = await stage.run();
      total.passed += counts.passed;
      total.failed += counts.failed;
      if (counts.failed > 0) break;
    }
  } catch (thrown) {
    total.failed += 1;
    console.error(messageOf(thrown));
    if (thrown instanceof ForeshiftError) console.error(`  ${thrown.remedy}`);
  }
  console.log(`\n${total.passed} passed, ${total.failed} failed`);
  return total.failed === 0;
}

/**
 * Virtual machines are tested where QEMU is. It is brought where they are asked for; and in CI, which goes without, and says so, where it cannot be
 * had.
 */
async function bringMachines({ CI, FORESHIFT_TEST_VMS }: NodeJS.ProcessEnv): Promise<void> {
  const say = (text: string) => console.log(`QEMU: ${text}`);
  if (FORESHIFT_TEST_VMS === "1") await setUpMachines(say);
  else if (FORESHIFT_TEST_VMS !== "0" && CI === "true" && process.arch === "x64")
    await setUpMachines(say).catch((thrown: unknown) => say(`${messageOf(thrown)}; virtual machines are not tested`));
}

function chosen(filters: readonly string[]): Stage[] {
  const all = [
    ...Object.entries(CHECKS).map(([name, command]) => check(name, command)),
    ...suiteNames().flatMap((name) => {
      const found = globSync(`test/${name}/**/*.test.ts`, { cwd: PROJECT }).sort();
      const files = [...new Set([...LONGEST_FIRST.filter((file) => found.includes(file)), ...found])];
      return files.length === 0 ? [] : [suite(name, files, SUITES[name] ?? 1)];
    }),
  ];
  if (filters.length === 0) return all;
  const wanted = all.filter(({ name }) => filters.includes(name));
  const unknown = filters.filter((filter) => !all.some(({ name }) => name === filter));
  if (unknown.length === 0) return wanted;
  const names = all.map(({ name }) => name).join(", ");
  const detail = `expected a test file or a stage that has tests: ${names}`;
  const error = new ForeshiftError("INVALID_FIELD", { field: "npm test", value: unknown.join(" "), detail });
  return [{ name: "arguments", run: () => Promise.reject(error) }];
}

/** A folder nobody has ranked yet runs as well, before the slowest one. */
function suiteNames(): string[] {
  const ranked = Object.keys(SUITES);
  const folders = new Set(globSync("test/**/*.test.ts", { cwd: PROJECT }).map((file) => file.split(sep)[1] ?? ""));
  return [...ranked.slice(0, -1), ...[...folders].filter((name) => !ranked.includes(name)).sort(), ...ranked.slice(-1)];
}

function check(name: string, [command = "", ...args]: readonly string[]): Stage {
  const runCheck = () =>
    new Promise<Counts>((resolve) => {
      const child = spawn(join(PROJECT, "node_modules", ".bin", command), args, { cwd: PROJECT, stdio: "inherit" });
      child.once("error", () => resolve({ passed: 0, failed: 1 }));
      child.once("exit", (code) => resolve(code === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 }));
    });
  return { name, run: runCheck };
}

function suite(name: string, files: readonly string[], concurrency: number): Stage {
  if (concurrency > 1) return { name, run: () => runSuite(files, concurrency) };
  const beside = files.filter((file) => SIDE_BY_SIDE.has(file));
  const alone = files.filter((file) => !SIDE_BY_SIDE.has(file));
  const runBoth = async () => {
    const first = await runSuite(alone, 1);
    if (first.failed > 0) return first;
    const second = await runSuite(beside, 2);
    return { passed: first.passed + second.passed, failed: second.failed };
  };
  return { name, run: runBoth };
}

function runSuite(files: readonly string[], concurrency: number): Promise<Counts> {
  if (files.length === 0) return Promise.resolve({ passed: 0, failed: 0 });
  return new Promise((resolve, reject) => {
    const stream = run({ files: [...files], cwd: PROJECT, concurrency, timeout: SETUP_LIMITS.testFileTimeoutMs });
    let counts: Counts = { passed: 0, failed: 1 };
    stream.on("test:summary", ({ file, counts: seen, success }) => {
      if (file !== undefined) return;
      const failed = seen.tests - seen.passed - seen.skipped - seen.todo;
      counts = { passed: seen.passed, failed: success ? failed : Math.max(failed, 1) };
    });
    const shown = stream.compose(spec);
    shown.once("error", reject);
    shown.once("end", () => resolve(counts));
    shown.pipe(process.stdout, { end: false });
  });
}

process.exitCode = (await main(process.argv.slice(2))) ? 0 : 1;
