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
const TESTS_IN_PARALLEL = 2;

const CHECKS: Readonly<Record<string, readonly string[]>> = {
  format: ["biome", "check", "--error-on-warnings", "."],
  lint: ["oxlint", "--type-aware", "--deny-warnings"],
  types: ["tsc", "--noEmit"],
  unused: ["knip"],
};

/** Suites that measure in milliseconds run one file at a time; those of workflows mostly wait. */
const SUITES: Readonly<Record<string, number>> = {
  unit: TESTS_IN_PARALLEL,
  setup: 1,
  activities: 1,
  workflows: TESTS_IN_PARALLEL,
  replay: 1,
  lab: 1,
};

async function main(filters: readonly string[]): Promise<boolean> {
  const files = filters.filter((filter) => filter.endsWith(".test.ts") && existsSync(filter));
  const stages = files.length > 0 ? [suite("files", files, 1)] : chosen(filters);
  const total = { passed: 0, failed: 0 };
  try {
    await setUp();
    if (process.env["FORESHIFT_TEST_VMS"] === "1") await setUpMachines();
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

function chosen(filters: readonly string[]): Stage[] {
  const all = [
    ...Object.entries(CHECKS).map(([name, command]) => check(name, command)),
    ...suiteNames().flatMap((name) => {
      const files = globSync(`test/${name}/**/*.test.ts`, { cwd: PROJECT }).sort();
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
  return { name, run: () => runSuite(files, concurrency) };
}

function runSuite(files: readonly string[], concurrency: number): Promise<Counts> {
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
