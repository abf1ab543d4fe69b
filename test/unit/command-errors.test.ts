// What a person is told who writes something wrong, or asks where nothing runs: what it is, what to do, and an exit code that says so.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

const MAIN = new URL("../../cli/main.ts", import.meta.url).pathname;
const home = mkdtempSync(join(tmpdir(), "foreshift-errors-"));

after(() => rmSync(home, { recursive: true }));

interface Told {
  readonly exitCode: number;
  readonly error: { readonly code: string; readonly message: string; readonly remedy: string };
}

function tell(args: string, environment: Readonly<Record<string, string>> = {}): Promise<Told> {
  const env = { PATH: process.env.PATH, HOME: home, FORESHIFT_HOME: home, ...environment };
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [MAIN, ...args.split(" "), "--json"], { env }, (_, __, stderr) => {
      resolve({ exitCode: child.exitCode ?? -1, error: JSON.parse(stderr).error });
    });
  });
}

const NOBODY = { TEMPORAL_ADDRESS: "127.0.0.1:9", DATABASE_URL: "postgres://127.0.0.1:9/none", FORESHIFT_PAYLOADS: "plain" };

test("each says what is wrong, and what to do about it", async () => {
  const cases = [
    ["swarm gte lab", {}, 64, "USAGE", /'gte'/, /Did you mean get\? `foreshift swarm --help`/],
    ["endpoint drain ep-1", {}, 64, "USAGE", /--swarm/, /`foreshift endpoint drain --help`/],
    ["plan --swarm /nowhere/swarm.yaml", {}, 65, "INVALID_FIELD", /\/nowhere\/swarm.yaml; there is no such file/, /./],
    ["lab traffic", {}, 65, "NO_LAB", /No lab runs/, /`foreshift lab up`/],
    ["swarm get lab", {}, 65, "NOT_CONFIGURED", /TEMPORAL_ADDRESS is not set/, /`foreshift lab up`/],
    ["audit", {}, 65, "NOT_CONFIGURED", /DATABASE_URL is not set/, /environment/],
    ["swarm get lab", NOBODY, 75, "UNREACHABLE", /Temporal at 127.0.0.1:9 .*ECONNREFUSED/, /Start it/],
  ] as const;
  await Promise.all(
    cases.map(async ([args, environment, exitCode, code, message, remedy]) => {
      const told = await tell(args, environment);
      assert.deepEqual([told.exitCode, told.error.code], [exitCode, code], args);
      assert.match(told.error.message, message, args);
      assert.match(told.error.remedy, remedy, args);
    }),
  );
});
