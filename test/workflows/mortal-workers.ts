/**
 * Workers that die at every step, by turns before it took effect and after: nobody hears of its answer, what they had in mind is gone, and
 * others go on from what Temporal has written down. Quicker than killing a process (kill-worker.test.ts), because nobody has to wait until
 * its heartbeats are missed.
 */
import { Context } from "@temporalio/activity";
import type { ActivityQueue } from "../../activities/index.ts";
import type { WorkerSet } from "../../workers/control/worker-set.ts";
import { activitiesOf, eventually, startWorkersWith, type TestServer } from "./support.ts";
import type { World } from "./world.ts";

export interface MortalWorkers {
  /** Steps at which they have died, in order: `before useIdentity`. */
  readonly deaths: readonly string[];
  stop(): Promise<void>;
}

/** Of new workers, on a machine that does much else. */
const START_MS = 60_000;

type Step = (...input: unknown[]) => Promise<unknown>;

/** Of these queues and the workflows'. `firstDies`: before the first step takes effect, or after. */
export async function startMortalWorkers(
  server: TestServer,
  world: World,
  queues: readonly ActivityQueue[],
  firstDies: "before" | "after",
): Promise<MortalWorkers> {
  const deaths: string[] = [];
  const ended: Promise<void>[] = [];
  let alive: WorkerSet;
  const die = async (step: string): Promise<never> => {
    deaths.push(step);
    // It takes nothing more, and is gone once the step that it is at has failed.
    ended.push(alive.stop());
    alive = await start();
    throw new Error(`the worker died ${step}`);
  };
  const mortal =
    (name: string, step: Step): Step =>
    async (...input) => {
      if (Context.current().info.attempt > 1) return await step(...input);
      const diesFirst = (deaths.length % 2 === 0) === (firstDies === "before");
      if (diesFirst) return await die(`before ${name}`);
      await step(...input);
      return await die(`after ${name}`);
    };
  const start = async () => {
    const all = activitiesOf(world);
    const taken = queues.map((queue) => [
      queue,
      Object.fromEntries(Object.entries(all[queue]).map(([name, step]) => [name, mortal(name, step as Step)])),
    ]);
    const workers = await startWorkersWith(server, Object.fromEntries(taken));
    await eventually("workers run", () => workers.status().state === "running", START_MS);
    return workers;
  };
  alive = await start();
  return {
    deaths,
    stop: async () => {
      await Promise.all([...ended, alive.stop()]);
    },
  };
}
