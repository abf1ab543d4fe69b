/**
 * Fills the pool of suspended machines.
 */
import { type MachinesAdded } from "../models/swarm-messages.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { counted } from "../models/words.ts";
import { reasonOf } from "./failures.ts";
import { endLaunch } from "./machines.ts";
import { ghostsReplenishedSignal } from "./messages.ts";
import { hypervisor } from "./queues.ts";
import { Journal, operationKey, step } from "./run.ts";

export interface ReplenishInput {
  readonly count: number;
  readonly reason: string;
  readonly spec: SwarmSpec;
}

export async function replenishGhosts(input: ReplenishInput): Promise<MachinesAdded> {
  const { count, reason, spec } = input;
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
          { swarm: spec.name, reason, suspended: true, operation: operationKey(`ghost-${number}`) },
        ]),
      );
      machines.push(machine);
      journal.note(`${machine} is suspended and can be woken.`);
    } catch (thrown) {
      journal.note(`Ghost ${number} could not be launched: ${reasonOf(thrown)}`);
    }
  }
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
