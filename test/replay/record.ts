/**
 * Records the replay corpus: tells each story on a real Temporal server and keeps the histories of its workflows.
 * `node test/replay/record.ts`; to be run when workflows change on purpose, beside the histories that are there.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { historyToJSON } from "@temporalio/common/lib/proto-utils.js";
import { ForeshiftError } from "../../models/errors.ts";
import { KEY_KINDS } from "../../models/keys.ts";
import type { SwarmSpec } from "../../models/swarm-spec.ts";
import {
  awaitWhole,
  BY,
  GROWING,
  growBeside,
  leadAway,
  membersOf,
  onSwarm,
  refusedRuns,
  rolled,
  rollThatEndsLate,
  type Stage,
  setStage,
} from "../workflows/stories.ts";
import { eventually, specFor, startServer } from "../workflows/support.ts";
import { TrainingStage } from "../workflows/training-stage.ts";
import type { World } from "../workflows/world.ts";

/** Bumped with each released change of the workflows' state or order of steps; histories of older ones are kept. */
const VERSION = "v1";
const FOLDER = join(import.meta.dirname, "histories");

type Story = (stage: Stage, world: World, spec: SwarmSpec) => Promise<void>;

const STORIES: Readonly<Record<string, Story>> = {
  replaced: async (stage, world, spec) => {
    const [endpoint] = membersOf(world);
    world.connect(endpoint, 6);
    await stage.temporal.replaceEndpoint({ swarm: spec.name, endpoint, by: BY });
    await eventually(`${endpoint} is gone`, () => world.score().terminated.includes(endpoint));
    await awaitWhole(stage, world, spec);
  },
  "put-back": async (stage, world, spec) => {
    const [endpoint] = membersOf(world);
    world.connect(endpoint, 6);
    let refused = false;
    world.intercept = (call) => {
      if (call !== "agent.adopt" || refused) return;
      refused = true;
      throw new ForeshiftError("NOT_PERMITTED", { detail: "do this in this story" });
    };
    await stage.temporal.replaceEndpoint({ swarm: spec.name, endpoint, by: BY });
    await eventually("the replacement is gone", () => world.score().terminated.length > 0);
    await awaitWhole(stage, world, spec);
  },
  foreseen: async (stage, world, spec) => {
    // The others would be too full (LITTLE_ROOM): what takes its place comes first.
    world.connect(membersOf(world)[1], 20);
    await leaveBeforeItFails(stage, world, spec);
  },
  spread: leaveBeforeItFails,
  "spread-put-back": async (_, world) => {
    let refused = false;
    world.intercept = (call) => {
      if (call !== "agent.adopt" || refused) return;
      refused = true;
      throw new ForeshiftError("NOT_PERMITTED", { detail: "do this in this story" });
    };
    fillUp(world);
    await eventually("it was put back", async () =>
      world.auditRows.some(({ action, outcome }) => action === "drain and replace" && outcome === "failed"),
    );
  },
  "as-likely-elsewhere": async (stage, world, spec) => {
    const [endpoint, ...others] = membersOf(world);
    for (const other of others) world.measure(other, { "pathLossShare:balancer": () => 0.5 });
    world.connect(endpoint, 20);
    world.measure(endpoint, { memoryShare: (secondsAgo) => 0.9 - 0.008 * secondsAgo });
    await eventually(`${endpoint} stays, for it is no better elsewhere`, async () => {
      const plan = await stage.temporal.lastPlan(spec.name);
      return plan?.withheld.some(({ because }) => because.includes("is as likely to fail"));
    });
  },
  drained: async (stage, world, spec) => {
    const [endpoint] = membersOf(world);
    world.connect(endpoint, 9);
    await stage.temporal.drainEndpoint({ swarm: spec.name, endpoint, by: BY });
    await eventually(`${endpoint} is gone`, () => world.score().terminated.includes(endpoint));
    await awaitWhole(stage, world, spec);
  },
  "drain-put-back": async (stage, world, spec) => {
    const [endpoint] = membersOf(world);
    world.connect(endpoint, 9);
    let adoptions = 0;
    world.intercept = (call, _, phase) => {
      if (call !== "agent.adopt" || phase !== "before") return;
      adoptions += 1;
      if (adoptions === 2) throw new ForeshiftError("NOT_PERMITTED", { detail: "do this in this story" });
    };
    await stage.temporal.drainEndpoint({ swarm: spec.name, endpoint, by: BY });
    await eventually("it was put back", async () =>
      world.auditRows.some(({ action, outcome }) => action === "drain" && outcome === "failed"),
    );
    await awaitWhole(stage, world, spec);
  },
  "ipsec-drained": async (stage, world, spec) => {
    const [endpoint] = membersOf(world);
    world.connect(endpoint, 2);
    world.connectIpsec(endpoint, 3);
    await stage.temporal.drainEndpoint({ swarm: spec.name, endpoint, by: BY });
    await eventually(`${endpoint} is gone`, () => world.score().terminated.includes(endpoint));
    await awaitWhole(stage, world, spec);
  },
  "ipsec-put-back": async (stage, world, spec) => {
    const [endpoint] = membersOf(world);
    const [, deaf] = world.connectIpsec(endpoint, 2);
    if (deaf !== undefined) deaf.isCutOff = true;
    await stage.temporal.replaceEndpoint({ swarm: spec.name, endpoint, by: BY });
    await eventually("the replacement is gone", () => world.score().terminated.length > 0);
    await awaitWhole(stage, world, spec);
  },
  "lost-and-replaced": async (stage, world, spec) => {
    const [endpoint] = membersOf(world);
    world.connect(endpoint, 3);
    world.crash(endpoint);
    await eventually(`${endpoint} is replaced`, () => world.score().terminated.includes(endpoint), 60_000);
    await awaitWhole(stage, world, spec);
  },
  "lost-and-recovered": async (stage, world, spec) => {
    const [endpoint] = membersOf(world);
    world.connect(endpoint, 3);
    world.crash(endpoint);
    world.machine(endpoint).agentAnswers = true;
    await eventually(`${endpoint} is recovered`, () => world.machine(endpoint).ejectedAtMs === undefined, 60_000);
    await awaitWhole(stage, world, spec);
  },
  "left-to-its-clients": async (stage, world, spec) => {
    const [endpoint] = membersOf(world);
    world.connect(endpoint, 3);
    world.crash(endpoint);
    world.machine(endpoint).agentAnswers = true;
    await eventually("its loss is being handled", async () => (await stage.temporal.status(spec.name)).runs.length > 0);
    world.clientsFindOut(endpoint);
    await eventually(`${endpoint} is recovered`, () => world.machine(endpoint).ejectedAtMs === undefined, 60_000);
    await awaitWhole(stage, world, spec);
  },
  "stopped-and-resumed": async (stage, world, spec) => {
    const [endpoint] = membersOf(world);
    world.connect(endpoint, 6);
    const request = { swarm: spec.name, scope: "swarm", by: BY, reason: "a story" } as const;
    let stopped: Promise<unknown> | undefined;
    world.intercept = (call, _, phase) => {
      if (call === "agent.adopt" && phase === "after") stopped ??= stage.temporal.stopAutomation(request);
    };
    await stage.temporal.drainEndpoint({ swarm: spec.name, endpoint, by: BY });
    await eventually("it is stopped", () => stopped);
    await stopped;
    await eventually("the swarm says so", async () => (await stage.temporal.status(spec.name)).stopped !== undefined);
    await stage.temporal.resumeAutomation(request);
    await eventually(`${endpoint} is gone`, () => world.score().terminated.includes(endpoint));
    await awaitWhole(stage, world, spec);
  },
  "endpoint-revoked": async (stage, world, spec) => {
    const [endpoint] = membersOf(world);
    const ghost = [...world.machines.values()].find(({ state }) => state === "suspended")?.name ?? "";
    world.connect(endpoint, 3);
    for (const one of [endpoint, ghost]) {
      await stage.temporal.revokeEndpoint({ swarm: spec.name, endpoint: one, by: BY, reason: "a story" });
      await eventually(`${one} is gone`, () => world.score().terminated.includes(one));
    }
    await awaitWhole(stage, world, spec);
  },
  "image-rolled": async (stage, world, spec) => {
    for (const endpoint of membersOf(world)) world.connect(endpoint, 2);
    await stage.temporal.rollSwarm({ swarm: spec.name, image: "image-2", by: BY, policy: { bakeMs: 200 } });
    await rolled(stage, spec.name);
    await awaitWhole(stage, world, spec);
  },
  "image-rolled-back": async (stage, world, spec) => {
    for (const endpoint of membersOf(world)) world.connect(endpoint, 2);
    world.intercept = () => {
      for (const machine of world.machines.values()) if (machine.image === "image-2") machine.loss = 0.5;
    };
    await stage.temporal.rollSwarm({ swarm: spec.name, image: "image-2", by: BY, policy: { bakeMs: 20_000 } });
    await rolled(stage, spec.name);
    await awaitWhole(stage, world, spec);
  },
  "image-again": async (stage, world, spec) => {
    const { name: swarm } = spec;
    const { ending, release } = await rollThatEndsLate(stage, world, swarm);
    const begun = stage.temporal.rollSwarm({ swarm, image: "image-1", by: BY, policy: { bakeMs: 200 } });
    await eventually("it was tried", async () => (await refusedRuns(stage, swarm)) > 0);
    release();
    await Promise.all([ending, begun]);
    await rolled(stage, swarm);
    await awaitWhole(stage, world, spec);
  },
  "image-aborted": async (stage, world, spec) => {
    const { name: swarm } = spec;
    world.refuseImage = "image-2";
    await stage.temporal.rollSwarm({ swarm, image: "image-2", by: BY, policy: { rollback: false } });
    await eventually("it waits for a person", async () => (await stage.temporal.status(swarm)).roll?.phase === "paused");
    await stage.temporal.abortRoll({ swarm, by: BY, keep: true });
    await rolled(stage, swarm);
    await awaitWhole(stage, world, spec);
  },
  "keys-rotated": async ({ temporal }, world, spec) => {
    const [endpoint] = membersOf(world);
    world.connect(endpoint, 3);
    const { name: swarm } = spec;
    const request = { swarm, kinds: KEY_KINDS, by: BY, reason: "a story", waits: true };
    const { workflowId, runId } = await temporal.rotateAll(request);
    await temporal.result(workflowId, runId);
    const [client] = world.clients;
    await temporal.revokeClients({ swarm, clients: [client?.publicKey ?? ""], by: BY, reason: "a story" });
  },
  "certificates-rotated": async ({ temporal }, _, spec) => {
    const request = { swarm: spec.name, kind: "certificates", by: BY, reason: "a story" } as const;
    const { workflowId, runId } = await temporal.rotateKeys(request);
    await temporal.result(workflowId, runId);
  },
  "keys-undone": async ({ temporal }, world, spec) => {
    const [endpoint] = membersOf(world);
    world.connect(endpoint, 3);
    let refused = false;
    world.intercept = (call) => {
      if (call !== "provisioner.activate" || refused) return;
      refused = true;
      throw new ForeshiftError("NOT_PERMITTED", { detail: "do this in this story" });
    };
    const { workflowId, runId } = await temporal.rotateKeys({ swarm: spec.name, kind: "preshared", by: BY, reason: "a story" });
    await temporal.result(workflowId, runId);
  },
  "static-key-undone": async ({ temporal }, world, spec) => {
    const [endpoint] = membersOf(world);
    world.connect(endpoint, 3);
    let switches = 0;
    world.intercept = (call, _, phase) => {
      const liar = world.clients.at(-1);
      if (call === "provisioner.use" && phase === "before") switches += 1;
      if (switches === 2 && liar !== undefined) liar.honest = false;
    };
    await rotateStaticKey(temporal, world, spec);
  },
  "static-key-waited": async ({ temporal }, world, spec) => {
    const [endpoint] = membersOf(world);
    world.connect(endpoint, 3);
    const [away] = world.clients;
    if (away !== undefined) away.reachable = false;
    await rotateStaticKey(temporal, world, spec);
  },
  grown: async (stage, world, spec) => {
    await growBeside(stage, world, spec);
  },
  relieved: async (stage, world, spec) => {
    await leadAway(stage, world, spec);
  },
  degraded: async (stage, world, spec) => {
    // The others would be too full (LITTLE_ROOM): what takes its place comes first.
    world.connect(membersOf(world)[1], 20);
    await leaveWhatIsIll(stage, world, spec);
  },
  "degraded-spread": leaveWhatIsIll,
};

async function leaveWhatIsIll(stage: Stage, world: World, spec: SwarmSpec): Promise<void> {
  const [endpoint] = membersOf(world);
  world.connect(endpoint, 20);
  world.machine(endpoint).loss = 0.1;
  await eventually(`${endpoint} is replaced`, () => world.score().terminated.includes(endpoint), 60_000);
  await awaitWhole(stage, world, spec);
}

/** One of them, its memory. */
function fillUp(world: World): string {
  const [endpoint] = membersOf(world);
  world.connect(endpoint, 20);
  world.measure(endpoint, { memoryShare: (secondsAgo) => 0.9 - 0.008 * secondsAgo });
  return endpoint;
}

async function leaveBeforeItFails(stage: Stage, world: World, spec: SwarmSpec): Promise<void> {
  const endpoint = fillUp(world);
  await eventually(`${endpoint} is gone`, () => world.score().terminated.includes(endpoint));
  await awaitWhole(stage, world, spec);
}

async function rotateStaticKey(temporal: Stage["temporal"], world: World, spec: SwarmSpec): Promise<void> {
  const policy = { ...spec.keys.static, graceMs: 1_500, retryEveryMs: 1_000, verifyTimeoutMs: 1_000 };
  await world.store.saveSpec({ ...spec, keys: { ...spec.keys, static: policy } });
  const { workflowId, runId } = await temporal.rotateKeys({ swarm: spec.name, kind: "static", by: BY, reason: "a story" });
  await temporal.result(workflowId, runId);
}

/** Stories in which predictions act. */
const PREDICTED = new Set(["foreseen", "spread", "spread-put-back", "as-likely-elsewhere"]);

const LITTLE_ROOM = { capacitySessions: 24 };

async function record(stage: Stage, name: string, story: Story): Promise<number> {
  const spec = specFor({
    name,
    ...(name === "foreseen" || name === "degraded" ? LITTLE_ROOM : {}),
    outlier: { takeover: name !== "left-to-its-clients" },
    foresight: PREDICTED.has(name) ? { mode: "act", windowMs: 60_000, dwellMs: 1_000 } : {},
    ...(name === "grown" ? GROWING : {}),
    ...(name === "relieved" ? { capacitySessions: 10 } : {}),
  });
  await onSwarm(stage, spec, async (world) => {
    await story(stage, world, spec);
  });
  const { workflow } = stage.server.client;
  const query = `ForeshiftSwarm = "${name}"`;
  let count = 0;
  await eventually("the server has indexed the runs", async () => {
    for await (const run of workflow.list({ query })) {
      if (run.status.name !== "RUNNING") continue;
      // Begun while the others were being ended, and seen in the index only now.
      await workflow
        .getHandle(run.workflowId, run.runId)
        .terminate("the story is over")
        .catch(() => undefined);
      return false;
    }
    return true;
  });
  for await (const { workflowId, runId } of workflow.list({ query })) {
    const history = await workflow.getHandle(workflowId, runId).fetchHistory();
    count += 1;
    const file = `${VERSION}.${name}.${workflowId.replaceAll("/", "-")}.${count}.json`;
    await writeFile(join(FOLDER, file), `${withoutPlace(historyToJSON(history))}\n`);
  }
  return count;
}

/** Its own stage: what a retraining does stands on a real database and on the trainer's process. */
async function recordTraining(stage: Stage): Promise<number> {
  const training = await TrainingStage.set(stage.server);
  try {
    await training.startTrainer();
    const runs = [await training.retrained("fleet"), await training.retrained("fleet"), await training.retrained("few")];
    for (const [at, { workflowId, runId, outcome, challenger }] of runs.entries()) {
      const history = await stage.server.client.workflow.getHandle(workflowId, runId).fetchHistory();
      const name = challenger === undefined ? "too-few" : outcome;
      await writeFile(join(FOLDER, `${VERSION}.retrained.${name}.${at + 1}.json`), `${withoutPlace(historyToJSON(history))}\n`);
    }
    return runs.length;
  } finally {
    await training.stop();
  }
}

/** One line, and nothing of the machine that it was recorded on: its name is in identities, its paths in stack traces. */
function withoutPlace(history: string): string {
  const project = join(import.meta.dirname, "..", "..");
  return JSON.stringify(JSON.parse(history)).replaceAll(hostname(), "host").replaceAll(project, ".");
}

await mkdir(FOLDER, { recursive: true });
const wanted = process.argv.slice(2);
const stage = await setStage(await startServer({ "limit.historyCount.suggestContinueAsNew": 60 }));
try {
  for (const [name, story] of Object.entries(STORIES)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    console.log(`${name}: ${await record(stage, name, story)} histories`);
  }
  if (wanted.length === 0 || wanted.includes("retrained")) console.log(`retrained: ${await recordTraining(stage)} histories`);
} finally {
  await stage.stop();
}
