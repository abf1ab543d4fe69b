/**
 * Stories on a swarm that is up, shared by the tests and by the recorder of the replay corpus.
 */

import { openTemporal, type Temporal } from "../../drivers/temporal-client.ts";
import { PLAIN_PAYLOADS } from "../../drivers/temporal-codec/codec.ts";
import type { RollStatus } from "../../models/roll.ts";
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
export async function awaitWhole({ temporal }: Stage, world: World, spec: SwarmSpec): Promise<void> {
  let last = "";
  const isWhole = async () => {
    const full = world.steering?.members.filter((member) => member.weight === 100 && !member.draining) ?? [];
    const ghosts = [...world.machines.values()].filter((machine) => machine.state === "suspended");
    const { runs, endpoints, recent } = await temporal.status(spec.name);
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

/** How the swarm's rollout has ended. */
export async function rolled({ temporal }: Stage, swarm: string): Promise<RollStatus> {
  let last: RollStatus | undefined;
  const isOver = async () => {
    const { roll, runs } = await temporal.status(swarm);
    last = roll;
    return runs.every(({ kind }) => kind !== "roll") ? roll : undefined;
  };
  return await eventually("the rollout has ended", isOver, 60_000).catch((thrown: unknown) => {
    throw new Error(`${String(thrown)}: ${JSON.stringify(last)}`);
  });
}
