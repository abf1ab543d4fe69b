/**
 * `foreshift endpoint drain|replace` as a person types it, against a real Temporal server: what it prints while it waits, and its exit
 * code.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ForeshiftError } from "../../models/errors.ts";
import { awaitWhole, membersOf, onSwarm, type Stage, setStage } from "./stories.ts";
import { eventually, specFor, startServer } from "./support.ts";

const FORESHIFT = join(import.meta.dirname, "..", "..", "cli", "foreshift.mjs");
let stage: Stage;

before(async () => {
  stage = await setStage(await startServer());
});
after(async () => {
  await stage?.stop();
});

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

interface Running {
  readonly ended: Promise<Ran>;
  /** Is given what it writes to standard error, while it runs. */
  telling(hear: (text: string) => void): Running;
}

function endpoint(...args: string[]): Running {
  const env = {
    ...process.env,
    FORESHIFT_PAYLOADS: "plain",
    TEMPORAL_ADDRESS: stage.server.address,
    DATABASE_URL: "postgres://nobody@127.0.0.1:1/none",
  };
  let hear: (text: string) => void = () => undefined;
  const ended = new Promise<Ran>((resolve) => {
    const child = execFile(process.execPath, [FORESHIFT, "endpoint", ...args], { env }, (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === "number" ? error.code : error === null ? 0 : -1, stdout, stderr });
    });
    child.stderr?.on("data", (text: string) => hear(text));
  });
  const running: Running = {
    ended,
    telling: (listener) => {
      hear = listener;
      return running;
    },
  };
  return running;
}

test("--wait shows the run's own lines and ends with its result", { timeout: 90_000 }, async () => {
  const spec = specFor({ name: "wait" });
  await onSwarm(stage, spec, async (world) => {
    const [name] = membersOf(world);
    world.connect(name, 6);
    const ran = await endpoint("drain", name, "-s", "wait", "--wait").ended;
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(ran.stdout, new RegExp(`^${name} has left the swarm; 6 sessions moved to `));
    assert.match(ran.stderr, /Round 1: 6 active and 0 quiet sessions/);
    assert.match(ran.stderr, new RegExp(`6 sessions moved from ${name}`));
    await awaitWhole(stage, world, spec);
    const [next] = membersOf(world);
    world.connect(next, 2);
    const json = await endpoint("replace", next, "-s", "wait", "--wait", "--json").ended;
    assert.equal(json.code, 0, json.stderr);
    assert.equal(json.stderr, "");
    const result = JSON.parse(json.stdout) as { outcome?: string };
    assert.equal(result.outcome, "replaced");
  });
});

test("a drain that was put back, and one that is refused, end with an exit code that says so", {
  timeout: 90_000,
}, async () => {
  const spec = specFor({ name: "fail" });
  await onSwarm(stage, spec, async (world) => {
    const [name] = membersOf(world);
    world.connect(name, 6);
    world.intercept = (call) => {
      if (call === "agent.adopt") throw new ForeshiftError("NOT_PERMITTED", { detail: "do this in this test" });
    };
    const ran = await endpoint("drain", name, "-s", "fail", "--wait").ended;
    assert.equal(ran.code, 1, ran.stderr);
    assert.match(ran.stdout, /serves as before; .* Because: This user may not do this in this test/);
    const unknown = await endpoint("drain", "ep-99", "-s", "fail", "--wait").ended;
    assert.equal(unknown.code, 65);
    assert.match(unknown.stderr, /There is no endpoint named ep-99\n {2}List the endpoints/);
  });
});

test("--wait says what a request waits for, and when it came to nothing", { timeout: 120_000 }, async () => {
  const spec = specFor({ name: "patient", budget: { disruptedShareMaxPercent: 1 } });
  await onSwarm(stage, spec, async (world) => {
    const [first, second] = membersOf(world);
    world.connect(first, 6);
    world.connect(second, 3);
    let begun = false;
    const seen = Promise.withResolvers<void>();
    world.intercept = async (call, operation) => {
      if (call !== "agent.adopt" || operation === undefined || begun) return;
      begun = true;
      await seen.promise;
    };
    const one = endpoint("replace", first, "-s", "patient", "--wait");
    await eventually("the first has begun", () => begun);
    let told = "";
    const two = endpoint("replace", second, "-s", "patient", "--wait").telling((text) => {
      told += text;
    });
    await eventually("the second waits", () =>
      /waits: budget: 1 of at most 1 endpoints are being disrupted already/.test(told),
    );
    world.crash(second);
    const { code, stderr } = await two.ended;
    seen.resolve();
    assert.match(stderr, new RegExp(`${second} is being handled already: The reflex has ejected ${second}`));
    assert.equal(code, 65);
    const { code: firstCode, stderr: firstLines } = await one.ended;
    assert.equal(firstCode, 0, firstLines);
  });
});
