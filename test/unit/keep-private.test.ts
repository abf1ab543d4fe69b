// What a process has in memory and environment does not reach a disk when it crashes.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { test } from "node:test";
import { childLine } from "../../setup/service.ts";
import { LeakScan } from "../support/leak-scan.ts";

const SECRET = "canary-0123456789abcdef";
const MODULE = JSON.stringify(new URL("../../workers/keep-private.ts", import.meta.url).href);

/** Written as Node writes it when it dies of a fatal error. */
async function reported(keptPrivate: boolean): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "foreshift-report-"));
  const keep = keptPrivate ? `import { keepMemoryPrivate } from ${MODULE}; keepMemoryPrivate();` : "";
  const script = `${keep} process.report.directory = ${JSON.stringify(folder)}; process.report.writeReport("report.json");`;
  try {
    execFileSync(process.execPath, ["--input-type=module", "--eval", script], {
      env: { ...process.env, OOPS: SECRET },
      stdio: "pipe",
    });
    return await readFile(join(folder, "report.json"), "utf8");
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("a crash report names no environment; without the precaution it would", async () => {
  const scan = new LeakScan([{ name: "canary", value: SECRET }]);
  const report = await reported(true);
  assert.match(report, /"javascriptStack"/);
  assert.deepEqual(scan.within("report", report), []);
  assert.equal(scan.within("report", await reported(false)).length, 1);
});

/** What lies in its folder after it was killed as a wild pointer kills; may write as large a core as the system lets it. */
async function leftBy(command: string, args: readonly string[]): Promise<readonly string[]> {
  const folder = await mkdtemp(join(tmpdir(), "foreshift-core-"));
  const largest = ["-c", 'ulimit -S -c "$(ulimit -H -c)"; exec "$0" "$@"', command, ...args];
  const { signal } = spawnSync("sh", largest, { cwd: folder, env: { ...process.env, OOPS: SECRET } });
  try {
    assert.equal(signal, "SIGSEGV");
    return (await new LeakScan([{ name: "canary", value: SECRET }]).files(folder)).map(({ place }) => basename(place));
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("killed by a fault of its own, a worker leaves no memory behind; without the precaution it does, where cores are files", async () => {
  const worker = `import { keepMemoryPrivate } from ${MODULE}; keepMemoryPrivate(); process.kill(process.pid, "SIGSEGV");`;
  assert.deepEqual(await leftBy(process.execPath, ["--input-type=module", "--eval", worker]), []);
  const [command, ...args] = childLine({ command: "sh", args: ["-c", "kill -SEGV $$"], orphanSignal: "KILL" });
  assert.deepEqual(await leftBy(command, args), []);
  const pattern = readFileSync("/proc/sys/kernel/core_pattern", "utf8").trim();
  const most = execFileSync("sh", ["-c", "ulimit -H -c"], { encoding: "utf8" }).trim();
  // Elsewhere the machine hands cores to a collector, or its owner has switched them off.
  if (pattern === "core" && most === "unlimited") assert.equal((await leftBy("sh", ["-c", "kill -SEGV $$"])).length, 1);
});

test("a worker and its children, and every service that is started, write no core", () => {
  const own = `import { keepMemoryPrivate } from ${MODULE}; import { execFileSync } from "node:child_process"; console.log(keepMemoryPrivate(), execFileSync("sh", ["-c", "ulimit -c"]).toString());`;
  const said = execFileSync(process.execPath, ["--input-type=module", "--eval", own], { encoding: "utf8" });
  assert.match(said, /^undefined 0\n/);
  const [command, ...args] = childLine({ command: "sh", args: ["-c", "ulimit -c"], orphanSignal: "KILL" });
  assert.equal(execFileSync(command, args, { encoding: "utf8" }).trim(), "0");
});
