/**
 * Runs one workflow after another on one set of workers, each in a world of its own, with chosen steps refused. A step is named by its
 * activity and what its operation key ends in: `setWeight drain`, `verifySessions`.
 */
import { ApplicationFailure } from "@temporalio/common";
import type { Activities } from "../../activities/index.ts";
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
  let scene: { activities: Activities; refuse: Set<string>; steps: Set<string> } | undefined;
  const play = (group: keyof Activities, name: string, input: { operation?: string }): unknown => {
    if (scene === undefined) throw new Error("nothing is played");
    const step = [name, ...(input.operation === undefined ? [] : [input.operation.split(":").at(-1)])].join(" ");
    scene.steps.add(step);
    if (scene.refuse.delete(step)) {
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
      scene = { activities: activitiesOf(world), refuse: new Set(refuse), steps };
      const result = await start(`drain/lab/ep-1/${scenes}`);
      return { result, steps: [...steps] };
    },
    stop: () => workers.stop(),
  };
}
