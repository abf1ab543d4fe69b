/**
 * Fills the pool of suspended machines, and puts fresh ones in the place of those of another image.
 */
import { type MachinesAdded } from "../models/swarm-messages.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { counted } from "../models/words.ts";
import { reasonOf } from "./failures.ts";
import { endLaunch, endMachine } from "./machines.ts";
import { ghostsReplenishedSignal } from "./messages.ts";
import { hypervisor } from "./queues.ts";
import { Journal, operationKey, step } from "./run.ts";

export interface ReplenishInput {
  readonly count: number;
  readonly reason: string;
  /** Of another image, and promised to this run; absent from runs of before there were any. */
  readonly replaces?: readonly string[];
  readonly spec: SwarmSpec;
}

export async function replenishGhosts(input: ReplenishInput): Promise<MachinesAdded> {
  const { count, reason, replaces = [], spec } = input;
  const journal = new Journal({
    swarm: spec.name,
    cause: "ghosts-missing",
    title: `Launch ${counted(count, "ghost")}: ${reason}`,
  });
  journal.enter("launching");
  const machines: string[] = [];
  for (let number = 1; number <= count; number += 1) {
    try {
      const machine = await step(journal, () =>
        hypervisor.launchMachine.executeWithOptions({ summary: `Launch ghost ${number} of ${count}` }, [
          {
            swarm: spec.name,
            reason,
            suspended: true,
            image: spec.endpoints.image,
            operation: operationKey(`ghost-${number}`),
          },
        ]),
      );
      machines.push(machine);
      journal.note(`${machine} is suspended and can be woken.`);
    } catch (thrown) {
      journal.note(`Ghost ${number} could not be launched: ${reasonOf(thrown)}`);
    }
  }
  await endStale(journal, replaces.slice(0, Math.max(0, replaces.length - (count - machines.length))), reason);
  const text = `${machines.length} of ${counted(count, "ghost")} launched${machines.length === 0 ? "" : `: ${machines.join(", ")}`}`;
  return await endLaunch(journal, {
    action: "replenish ghosts",
    wanted: count,
    machines,
    launched: machines.length,
    text,
    signal: ghostsReplenishedSignal,
  });
}

/** Once there are others in their place. */
async function endStale(journal: Journal, stale: readonly string[], reason: string): Promise<void> {
  for (const ghost of stale) {
    try {
      await endMachine(journal, ghost, { reason, name: `stale-${ghost}` });
      journal.note(`${ghost} was of another image and has ended.`);
    } catch (thrown) {
      journal.note(`${ghost} is of another image and could not be ended: ${reasonOf(thrown)}`);
    }
  }
}
