/** The main job end to end: `foreshift lab up --once` on real parts, twice on one home. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { access, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { StoryResult } from "../../lab/story.ts";
import { paths } from "../../setup/paths.ts";

const MAIN = join(import.meta.dirname, "..", "..", "cli", "main.ts");

describe("the lab's story", () => {
  let home: string;
  let env: NodeJS.ProcessEnv;

  before(async () => {
    home = await mkdtemp(join(tmpdir(), "foreshift-story-"));
    env = { ...process.env, FORESHIFT_HOME: home, FORESHIFT_BIN: paths().bin };
  });

  after(async () => {
    await rm(home, { recursive: true, force: true });
    await rm(paths(env).run, { recursive: true, force: true });
  });

  for (const start of ["a fresh home", "the home of the lab before"]) {
    it(`moves sessions off a failing endpoint, on ${start}`, async () => {
      const { output, errors } = await run(["lab", "up", "--once", "--json"], env);
      assert.ok(output.trim().startsWith("{"), errors);
      const { chapters }: StoryResult = JSON.parse(output);
      assert.deepEqual(
        chapters.map(({ title }) => title),
        ["steady", "leak foreseen", "brownout", "crash", "freeze"],
        errors,
      );
      const [steady, foreseen, brownout, ...losses] = chapters;
      for (const planned of [steady, foreseen, brownout]) {
        assert.ok(planned !== undefined && planned.packetsSent > 0);
        assert.equal(planned.packetsDuplicated, 0, errors);
        assert.equal(planned.tcpBroken, 0, errors);
      }
      assert.ok((brownout?.sessionsMoved ?? 0) > 0);
      assert.ok((foreseen?.sessionsMoved ?? 0) > 0);
      // Nothing was wrong with it by then that anybody could have reacted to.
      assert.ok((foreseen?.aheadMs ?? 0) > 10_000, errors);
      for (const loss of losses) {
        // A second of silence is not asserted here: the machine that runs the tests may be busy. `npm start -- --once` does.
        assert.ok(loss.sessionsMoved > 0);
        assert.equal(loss.tcpBroken, 0, errors);
        assert.ok(loss.packetsLost < loss.packetsSent, errors);
      }
      await assert.rejects(access(join(home, "config", "connection.json")), "what a lab wrote for others ends with it");
    });
  }
});

function run(args: readonly string[], env: NodeJS.ProcessEnv): Promise<{ output: string; errors: string }> {
  const child = spawn(process.execPath, [MAIN, ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  let errors = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", () => resolve({ output, errors }));
  });
}
