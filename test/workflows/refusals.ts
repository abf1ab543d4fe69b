/**
 * Runs workflows on one set of workers, each in a world of its own whose swarm no other has, with chosen steps refused. A step is named by
 * its activity and what its operation key ends in: `setWeight drain`, `verifySessions`. What other runs do that it begins is none of its
 * steps.
 */
import { activityInfo } from "@temporalio/activity";
import { WorkflowNotFoundError } from "@temporalio/client";
import { ApplicationFailure } from "@temporalio/common";
import type { Activities } from "../../activities/index.ts";
import { retireWorkflowId } from "../../models/keys.ts";
import { activitiesOf, startWorkersWith, type TestServer } from "./support.ts";
import { World } from "./world.ts";

export const REFUSAL = "the test refuses this step";

export interface Stand {
  /** The steps that were made, in their order, each named once. Scenes may be played at the same time. */
  run<R>(scene: { world: World; refuse: readonly string[]; start: (workflowId: string) => Promise<R> }): Promise<{
    result: R;
    steps: readonly string[];
  }>;
  stop(): Promise<void>;
}

interface Scene {
  readonly workflowId: string;
  readonly activities: Activities;
  readonly refuse: Set<string>;
  readonly steps: Set<string>;
}

export async function openStand(server: TestServer): Promise<Stand> {
  /** By swarm. */
  const scenes = new Map<string, Scene>();
  const play = (group: keyof Activities, name: string, input: { operation?: string }): unknown => {
    const workflowId = activityInfo().workflowExecution?.workflowId ?? "";
    const scene = scenes.get(workflowId.split("/")[1] ?? "");
    if (scene === undefined) throw new Error(`nothing is played for ${workflowId}`);
    const step = [name, ...(input.operation === undefined ? [] : [input.operation.split(":").at(-1)])].join(" ");
    const isOwn = workflowId === scene.workflowId;
    if (isOwn) scene.steps.add(step);
    if (isOwn && scene.refuse.delete(step)) {
      const error = { code: "NOT_PERMITTED", message: REFUSAL, remedy: "none" };
      throw ApplicationFailure.create({ type: "NOT_PERMITTED", message: REFUSAL, nonRetryable: true, details: [error] });
    }
    const activity: unknown = Reflect.get(scene.activities[group], name);
    if (typeof activity !== "function") throw new Error(`no activity ${name}`);
    return Reflect.apply(activity, undefined, [input]) as unknown;
  };
  const relayed = <A extends object>(group: keyof Activities, activities: A): A =>
    new Proxy(activities, { get: (_, name) => (input: { operation?: string }) => play(group, String(name), input) });
  const { balancer, hypervisor, agents, store, vault, watch } = activitiesOf(new World());
  const workers = await startWorkersWith(server, {
    balancer: relayed("balancer", balancer),
    hypervisor: relayed("hypervisor", hypervisor),
    agents: relayed("agents", agents),
    store: relayed("store", store),
    vault: relayed("vault", vault),
    watch: relayed("watch", watch),
  });
  return {
    run: async ({ world, refuse, start }) => {
      const swarm = world.steering?.swarm ?? "";
      if (swarm === "" || scenes.has(swarm)) throw new Error(`a scene needs a swarm of its own, not "${swarm}"`);
      const workflowId = `drain/${swarm}/ep-1`;
      const steps = new Set<string>();
      scenes.set(swarm, { workflowId, activities: activitiesOf(world), refuse: new Set(refuse), steps });
      const result = await start(workflowId);
      for (const endpoint of world.score().terminated) await retired(server, swarm, endpoint);
      return { result, steps: [...steps] };
    },
    stop: () => workers.stop(),
  };
}

/** Certificates of a machine that has ended are revoked by a run of their own, which belongs to the scene. */
async function retired(server: TestServer, swarm: string, endpoint: string): Promise<void> {
  try {
    await server.client.workflow.getHandle(retireWorkflowId(swarm, endpoint)).result();
  } catch (thrown) {
    // The run ended before it came to this.
    if (!(thrown instanceof WorkflowNotFoundError)) throw thrown;
  }
}
