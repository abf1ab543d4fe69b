/**
 * Stories on a swarm that is up, shared by the tests and by the recorder of the replay corpus.
 */

import { openTemporal, type Temporal } from "../../drivers/temporal-client.ts";
import { PLAIN_PAYLOADS } from "../../drivers/temporal-codec/codec.ts";
import { ForeshiftError } from "../../models/errors.ts";
import type { RollStatus } from "../../models/roll.ts";
import { type SwarmStatus, swarmWorkflowId } from "../../models/swarm-messages.ts";
import type { SwarmSpec } from "../../models/swarm-spec.ts";
import type { WorkerSet } from "../../workers/control/worker-set.ts";
import { eventually, startWorkers, type TestServer } from "./support.ts";
import { World } from "./world.ts";

export const BY = "a test";

export interface Stage {
  readonly server: TestServer;
  readonly temporal: Temporal;
  readonly stop: () => Promise<void>;
}

export async function setStage(server: TestServer): Promise<Stage> {
  const temporal = await openTemporal({
    temporalAddress: server.address,
    temporalNamespace: "default",
    sealing: PLAIN_PAYLOADS,
  });
  return {
    server,
    temporal,
    stop: async () => {
      await temporal.close();
      await server.stop();
    },
  };
}

/** Brings the swarm up, tells the story, and ends its workflows whatever happens. */
export async function onSwarm(stage: Stage, spec: SwarmSpec, story: (world: World) => Promise<void>): Promise<void> {
  const { server, temporal } = stage;
  const world = new World();
  let workers: WorkerSet | undefined;
  try {
    workers = await startWorkers(server, world);
    await temporal.applySwarm({ spec, by: BY });
    await awaitWhole(stage, world, spec);
    await story(world);
  } finally {
    await endRuns(stage, spec.name);
    await workers?.stop();
  }
}

/** Whatever runs for the swarm. */
export async function endRuns({ server, temporal }: Stage, swarm: string): Promise<void> {
  // The index is late: a run that has just begun appears in it after the others have ended.
  await eventually("every run of the story has ended", async () => {
    const open = await temporal.openRuns(swarm);
    const end = (id: string) => server.client.workflow.getHandle(id).terminate("the test is over");
    await Promise.allSettled(open.map(end));
    return open.length === 0;
  });
}

/** Every endpoint at full weight, every ghost asleep, no run under way, and the swarm believes it. */
export async function awaitWhole(stage: Stage, world: World, spec: SwarmSpec): Promise<void> {
  let last = "";
  const isWhole = async () => {
    const full = world.steering?.members.filter((member) => member.weight === 100 && !member.draining) ?? [];
    const ghosts = [...world.machines.values()].filter((machine) => machine.state === "suspended");
    const status = await statusOf(stage, spec.name);
    if (status === undefined) return false;
    const { runs, endpoints, recent } = status;
    const active = endpoints.filter((one) => one.phase === "active" && one.weight === 100);
    last = JSON.stringify({ full: full.length, ghosts: ghosts.length, runs, endpoints, recent });
    const counts = [full.length, active.length].every((count) => count === spec.endpoints.count);
    return counts && ghosts.length === spec.endpoints.ghosts && runs.length === 0;
  };
  await eventually(`${spec.endpoints.count} endpoints and ${spec.endpoints.ghosts} ghosts`, isWhole).catch(
    (thrown: unknown) => {
      throw new Error(`${String(thrown)}: ${last}`);
    },
  );
}

/** Of a swarm that may grow from three to seven endpoints, each of which is to hold ten sessions at most. */
export const GROWING = { countMax: 7, capacitySessions: 20, foresight: { overloadThreshold: 0.5 } } as const;

/** Sessions come for which three endpoints more are needed, and one more while two of these are being launched. Answers the ids of runs seen at a time. */
export async function growBeside({ temporal }: Stage, world: World, spec: SwarmSpec): Promise<readonly string[]> {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  world.intercept = async (call, operation, phase) => {
    if (call === "hypervisor.launch" && operation?.startsWith(`add/${spec.name}/2/`) && phase === "before") await released;
  };
  for (const endpoint of membersOf(world)) world.connect(endpoint, 18);
  let beside: readonly string[] = [];
  const serving = async () => {
    const { runs, endpoints } = await temporal.status(spec.name);
    const adding = runs.filter(({ kind }) => kind === "add").map(({ workflowId }) => workflowId);
    if (adding.length > beside.length) beside = adding;
    return endpoints.filter(({ phase }) => phase === "active").map(({ endpoint }) => endpoint);
  };
  const fourth = await eventually("the ghost serves while others are launched", async () => (await serving())[3]);
  world.connect(fourth, 10);
  await eventually("another one serves that was asked for meanwhile", async () => (await serving()).length === 5);
  release();
  await eventually("all seven serve", async () => (await serving()).length === 7);
  return beside;
}

/** An endpoint holds three sessions more than it carries. Answers it. */
export async function leadAway({ temporal }: Stage, world: World, spec: SwarmSpec): Promise<string> {
  const [endpoint] = membersOf(world);
  const carries = spec.endpoints.capacitySessions;
  world.connect(endpoint, carries + 3);
  await eventually("what is too many lives elsewhere", async () => {
    const { runs } = await temporal.status(spec.name);
    const held = world.clients.filter((client) => client.endpoint === endpoint).length;
    return held === carries && runs.length === 0;
  });
  return endpoint;
}

/** The endpoints in the order of their names; which numbers are ghosts depends on who launched first. */
export function membersOf(world: World): [string, string, string] {
  const names = (world.steering?.members ?? []).map((member) => member.endpoint).sort();
  const [first, second, third] = names;
  if (first === undefined || second === undefined || third === undefined) throw new Error(`fewer than three: ${names.join()}`);
  return [first, second, third];
}

/** What the machines that are there boot from. */
export function imagesOf(world: World): readonly string[] {
  return [...world.machines.values()].filter(({ state }) => state !== "gone").map(({ image }) => image);
}

/** Undefined while nobody answers: its worker was killed, and another one is being started. */
async function statusOf({ temporal }: Stage, swarm: string): Promise<SwarmStatus | undefined> {
  try {
    return await temporal.status(swarm);
  } catch (thrown) {
    if (thrown instanceof ForeshiftError && thrown.code === "UNREACHABLE") return undefined;
    throw thrown;
  }
}

/** How the swarm's rollout has ended. */
export async function rolled(stage: Stage, swarm: string): Promise<RollStatus> {
  let last: RollStatus | undefined;
  const isOver = async () => {
    const status = await statusOf(stage, swarm);
    if (status === undefined) return undefined;
    const { roll, runs } = status;
    last = roll;
    return runs.every(({ kind }) => kind !== "roll") ? roll : undefined;
  };
  return await eventually("the rollout has ended", isOver, 60_000).catch((thrown: unknown) => {
    throw new Error(`${String(thrown)}: ${JSON.stringify(last)}`);
  });
}

/** A rollout that has told the swarm how it ended, and whose run is open until `release`. */
export async function rollThatEndsLate(
  stage: Stage,
  world: World,
  swarm: string,
): Promise<{ ending: Promise<unknown>; release: () => void }> {
  const { temporal } = stage;
  const heard = Promise.withResolvers<void>();
  world.refuseImage = "unbootable";
  await temporal.rollSwarm({ swarm, image: "unbootable", by: BY, policy: { rollback: false } });
  await eventually("it waits for a person", async () => (await temporal.status(swarm)).roll?.phase === "paused");
  world.intercept = async (_, operation) => {
    // The run ends once this was answered.
    if (operation?.includes(":abort-")) await heard.promise;
  };
  const ending = temporal.abortRoll({ swarm, by: BY, keep: true });
  ending.catch(() => undefined);
  await rolled(stage, swarm);
  return { ending, release: heard.resolve };
}

/** How often a run of the swarm could not begin because another one of its id was under way. */
export async function refusedRuns({ server }: Stage, swarm: string): Promise<number> {
  const { events } = await server.client.workflow.getHandle(swarmWorkflowId(swarm)).fetchHistory();
  return (events ?? []).filter((event) => event.startChildWorkflowExecutionFailedEventAttributes).length;
}
