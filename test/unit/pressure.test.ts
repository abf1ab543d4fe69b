/** Pressure stall information from files as kernels write them: whose count is taken, and what is left out. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { stalledS } from "../../workers/agent/pressure.ts";

const ROOT = mkdtempSync(join(tmpdir(), "foreshift-pressure-"));
after(() => rmSync(ROOT, { recursive: true, force: true }));

function psi(someUs: number, fullUs: number): string {
  const line = (kind: string, us: number) => `${kind} avg10=1.23 avg60=0.40 avg300=0.08 total=${us}\n`;
  return `${line("some", someUs)}${line("full", fullUs)}`;
}

function folder(name: string, files: Readonly<Record<string, string>>): string {
  for (const [file, text] of Object.entries(files)) {
    const path = join(ROOT, name, file);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  return join(ROOT, name);
}

const PROC = folder("proc", { "pressure/cpu": psi(4_000_000, 0), "pressure/memory": psi(2_500_000, 1_500_000) });
const UNIFIED = folder("unified", { "cpu.pressure": psi(1_250_000, 750_000), "cpu.stat": "usage_usec 5\n" });
const LEGACY = folder("legacy", { "cpuacct.usage": "1000000000\n" });

test("an endpoint's own control group counts before its machine", () => {
  assert.equal(stalledS("cpu", "some", { cgroup: UNIFIED, ownMachine: true, proc: PROC }), 1.25);
  assert.equal(stalledS("cpu", "full", { cgroup: UNIFIED, ownMachine: false, proc: PROC }), 0.75);
});

test("where the group counts nothing, the machine does, if it is the endpoint's", () => {
  assert.equal(stalledS("cpu", "some", { cgroup: LEGACY, ownMachine: true, proc: PROC }), 4);
  assert.equal(stalledS("memory", "full", { cgroup: UNIFIED, ownMachine: true, proc: PROC }), 1.5);
  assert.equal(stalledS("memory", "full", { ownMachine: true, proc: PROC }), 1.5);
});

test("what is not counted, or not the endpoint's, is left out", () => {
  assert.equal(stalledS("cpu", "some", { cgroup: LEGACY, ownMachine: false, proc: PROC }), undefined);
  assert.equal(stalledS("cpu", "some", { ownMachine: false, proc: PROC }), undefined);
  assert.equal(stalledS("io", "some", { ownMachine: true, proc: PROC }), undefined);
  const odd = folder("odd", { "cpu.pressure": "some avg10=nonsense\n" });
  assert.equal(stalledS("cpu", "some", { cgroup: odd, ownMachine: false, proc: join(ROOT, "none") }), undefined);
});
