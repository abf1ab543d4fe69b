/**
 * Runs a test file inside namespaces of its own (network, mounts, processes; user too when not root), so that whatever it makes
 * vanishes with it: interfaces, processes, sockets under /run.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const MARK = "FORESHIFT_TEST_NAMESPACE";
const INSIDE_TIMEOUT_MS = 180_000;

/** True inside. Outside it registers one test that runs the file inside, and answers false. `timeoutMs`: emulated guests need longer. */
export function insideNamespace(fileUrl: string, timeoutMs = INSIDE_TIMEOUT_MS): boolean {
  if (process.env[MARK] === "1") return true;
  const file = fileURLToPath(fileUrl);
  test(`inside namespaces: ${file.split("/").at(-1)}`, { timeout: timeoutMs }, async (t) => {
    const { status, output } = await runInside(file);
    // Figures that were measured inside.
    for (const [figures] of output.matchAll(/\{".*\}$/gm)) t.diagnostic(figures);
    assert.equal(status, 0, output);
  });
  return false;
}

async function runInside(file: string): Promise<{ status: number | null; output: string }> {
  const user = process.getuid?.() === 0 ? [] : ["-U", "-r"];
  const script = 'mount -t tmpfs tmpfs /run && mkdir -p /run/netns /run/wireguard && ip link set lo up && exec "$@"';
  const args = [
    ...user,
    "-n",
    "-m",
    "-p",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "sh",
    "-c",
    script,
    "sh",
    process.execPath,
    "--test",
    "--test-reporter=spec",
    file,
  ];
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const child = spawn("unshare", args, { env: { ...env, [MARK]: "1" }, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  return await new Promise((resolve) => child.once("close", (status) => resolve({ status, output })));
}

/** A command that must succeed; its standard output. */
export function run(file: string, ...args: string[]): string {
  const result = spawnSync(file, args, { encoding: "utf8", timeout: 20_000 });
  assert.equal(result.status, 0, `${file} ${args.join(" ")}: ${result.stderr}`);
  return result.stdout;
}
