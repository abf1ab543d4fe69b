/** The `foreshift` command and `doctor`, as a person meets them: run as processes. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { z } from "zod";
import { withLock } from "../../setup/lock.ts";
import { makePaths, paths } from "../../setup/paths.ts";

const PROJECT = join(import.meta.dirname, "..", "..");
const BOOTSTRAP = join(PROJECT, "setup", "bootstrap.mjs");
const FORESHIFT = join(PROJECT, "cli", "foreshift.mjs");
const SOCKET_PATH_BYTES_MAX = 107;

const Report = z.object({
  healthy: z.boolean(),
  checks: z.array(z.object({ name: z.string(), state: z.string(), where: z.string(), remedy: z.string().optional() })),
});

let home: string;

before(async () => {
  home = await mkdtemp(join(tmpdir(), "foreshift-home-"));
});
after(() => rm(home, { recursive: true, force: true }));

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function foreshift(args: readonly string[], env: NodeJS.ProcessEnv = {}): Ran {
  return spawnSync(process.execPath, [FORESHIFT, ...args], { encoding: "utf8", env: { ...process.env, ...env } });
}

test("an unknown command names the nearest, in two lines, and exits with 64", () => {
  const { status, stdout, stderr } = foreshift(["dotcor"]);
  assert.equal(status, 64);
  assert.equal(stdout, "");
  assert.match(stderr, /^Unknown command 'dotcor'\n {2}Did you mean doctor\? .*\n$/);
});

test("an unknown option names the nearest; with --json the error is one JSON object", () => {
  const { status, stderr } = foreshift(["--json", "doctor", "--jsom"]);
  assert.equal(status, 64);
  const { error } = z
    .object({ error: z.object({ code: z.string(), message: z.string(), remedy: z.string() }) })
    .parse(JSON.parse(stderr));
  assert.equal(error.code, "USAGE");
  assert.match(error.remedy, /--json/);
});

test("a stack is shown only when it is asked for", () => {
  assert.doesNotMatch(foreshift(["dotcor"]).stderr, /\bat .*\.ts:/);
  assert.match(foreshift(["dotcor"], { FORESHIFT_DEBUG: "1" }).stderr, /\bat .*\.js:/);
});

test("an interruption that is sent to the starter alone reaches the command, whose end is its own", async () => {
  const command = 'process.once("SIGINT", () => process.exit(7)); setInterval(() => undefined, 1_000); console.log("ready")';
  // Its file boots a command when it is itself the script that Node was given.
  const starter =
    'const [script, bootstrap] = process.argv.splice(1); (await import(bootstrap)).handOver(process.execPath, ["-e", script])';
  const child = spawn(process.execPath, ["--input-type=module", "-e", starter, command, BOOTSTRAP], {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: 20_000,
  });
  const [said] = await once(child.stdout, "data");
  assert.equal(String(said), "ready\n");
  child.kill("SIGINT");
  assert.deepEqual(await once(child, "exit"), [7, null]);
});

test("help lists every command, each command explains itself", async () => {
  const main = await readFile(join(PROJECT, "cli", "main.ts"), "utf8");
  const names = [...main.matchAll(/^ {2}(\w+): \{ summary/gm)].map(([, name]) => name ?? "");
  assert.ok(names.length >= 13);
  const { status, stdout } = foreshift(["--help"]);
  assert.equal(status, 0);
  for (const name of names) assert.match(stdout, new RegExp(`^ {2}${name} `, "m"));
});

test("doctor tells what is where, as JSON too, and its exit code says whether all is there", () => {
  const { status, stdout } = foreshift(["doctor", "--json"]);
  const report = Report.parse(JSON.parse(stdout));
  assert.equal(status, report.healthy ? 0 : 69);
  for (const name of ["node", "temporal", "postgres", "openbao", "nft", "wireguard", "namespaces", "disk", "ports"]) {
    assert.ok(
      report.checks.some((found) => found.name === name),
      name,
    );
  }
});

test("doctor names a missing tool and the line that brings it", () => {
  const script = 'mount --bind /dev/null "$(PATH=$PATH:/usr/sbin command -v nft)"; exec "$@"';
  const inside = ["unshare", "--user", "--map-user=1000", "--", process.execPath, FORESHIFT, "doctor", "--json"];
  const namespaces = process.getuid?.() === 0 ? ["--mount"] : ["--user", "--map-root-user", "--mount"];
  const { stdout, stderr, status } = spawnSync("unshare", [...namespaces, "sh", "-euc", script, "sh", ...inside], {
    encoding: "utf8",
  });
  assert.equal(status, 69, stderr);
  const nft = Report.parse(JSON.parse(stdout)).checks.find(({ name }) => name === "nft");
  assert.equal(nft?.state, "missing");
  assert.match(nft?.remedy ?? "", /nftables/);
});

test("credentials of an external service are never shown", () => {
  const { stdout } = foreshift(["doctor", "--json"], { DATABASE_URL: "postgresql://me:hidden@db.example:5432/x" });
  assert.match(stdout, /db\.example:5432/);
  assert.doesNotMatch(stdout, /hidden/);
});

test("two who want the same lock go one after the other", async () => {
  const events: string[] = [];
  const work = (name: string) => async () => {
    events.push(`${name} begins`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    events.push(`${name} ends`);
  };
  await Promise.all(["a", "b"].map((name) => withLock(`test ${home}`, work(name))));
  assert.equal(events.length, 4);
  assert.equal(events[0]?.replace("begins", "ends"), events[1]);
});

test("the run folder is short, private, and refused when it is not ours alone", async () => {
  const long = paths({ FORESHIFT_HOME: join(home, "a".repeat(200)) });
  assert.ok(join(long.run, "agents", "ep-100000.sock").length < SOCKET_PATH_BYTES_MAX);
  const mine = { home, log: join(home, "log"), run: join(home, "run") };
  await makePaths(mine);
  await makePaths(mine);
  spawnSync("chmod", ["0777", mine.run]);
  await assert.rejects(makePaths(mine), { code: "NOT_PERMITTED" });
});
