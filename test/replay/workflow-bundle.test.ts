// The workflows' bundle is made once for the same sources, and kept where compiled modules are.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

const folder = mkdtempSync(join(tmpdir(), "foreshift-bundle-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const PROGRAM = `
  import { bundleWorkflows } from ${JSON.stringify(join(import.meta.dirname, "../../workers/control/workflow-bundle.ts"))};
  const silent = { log() {}, trace() {}, debug() {}, info() {}, warn() {}, error() {} };
  process.stdout.write((await bundleWorkflows(silent, undefined)).code);`;

function bundled(): string {
  const { status, stderr, stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", PROGRAM], {
    encoding: "utf8",
    env: { ...process.env, NODE_COMPILE_CACHE: folder },
    maxBuffer: 256 * 1024 * 1024,
  });
  assert.equal(status, 0, stderr);
  return stdout;
}

const kept = () =>
  readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => /workflows-[0-9a-f]{64}\.js/.test(name));

test("another process takes what the first has made, and makes its own where there is none", () => {
  const made = bundled();
  assert.match(made, /drainAndReplace/);
  const [name = "", ...others] = kept();
  assert.deepEqual(others, []);
  assert.equal(statSync(join(folder, name)).mode & 0o077, 0);
  writeFileSync(join(folder, name), "what was kept");
  assert.equal(bundled(), "what was kept");
});
