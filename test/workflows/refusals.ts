/**
 * Runs one workflow after another on one set of workers, each in a world of its own, with chosen steps refused. A step is named by its
 * activity and what its operation key ends in: `setWeight drain`, `verifySessions`. What other runs do that it begins is none of its steps.
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
  /** The steps that were made, in their order, each named once. */
  run<R>(scene: { world: World; refuse: readonly string[]; start: (workflowId: string) => Promise<R> }): Promise<{
    result: R;
    steps: readonly string[];
  }>;
  stop(): Promise<void>;
}

export async function openStand(server: TestServer): Promise<Stand> {
  let scene: { workflowId: string; activities: Activities; refuse: Set<string>; steps: Set<string> } | undefined;
  const play = (group: keyof Activities, name: string, input: { operation?: string }): unknown => {
    if (scene === undefined) throw new Error("nothing is played");
    const step = [name, ...(input.operation === undefined ? [] : [input.operation.split(":").at(-1)])].join(" ");
    const isOwn = activityInfo().workflowExecution?.workflowId === scene.workflowId;
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
  let scenes = 0;
  return {
    run: async ({ world, refuse, start }) => {
      scenes += 1;
      const steps = new Set<string>();
      const workflowId = `drain/lab/ep-1/${scenes}`;
      scene = { workflowId, activities: activitiesOf(world), refuse: new Set(refuse), steps };
      const result = await start(workflowId);
      for (const endpoint of world.score().terminated) await retired(server, endpoint);
      return { result, steps: [...steps] };
    },
    stop: () => workers.stop(),
  };
}

/** Certificates of a machine that has ended are revoked by a run of their own, which must not act in the next world. */
async function retired(server: TestServer, endpoint: string): Promise<void> {
  try {
    await server.client.workflow.getHandle(retireWorkflowId("lab", endpoint)).result();
  } catch (thrown) {
    // The run ended before it came to this.
    if (!(thrown instanceof WorkflowNotFoundError)) throw thrown;
  }
}
