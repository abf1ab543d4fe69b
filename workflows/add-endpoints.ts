/**
 * Brings endpoints into service that the swarm is missing: at the first bring-up, after a lowered count was raised, or for more capacity.
 */
import { LIMITS } from "../models/limits.ts";
import { type MachinesAdded } from "../models/swarm-messages.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { counted } from "../models/words.ts";
import { reasonOf } from "./failures.ts";
import { endLaunch, giveWeight, joinAndProbe, obtainMachine, removeMachine } from "./machines.ts";
import { endpointsAddedSignal } from "./messages.ts";
import { Journal } from "./run.ts";

export interface AddInput {
  readonly count: number;
  readonly reason: string;
  /** Promised by the swarm; woken before anything is launched. */
  readonly ghosts: readonly string[];
  readonly spec: SwarmSpec;
}

export async function addEndpoints(input: AddInput): Promise<MachinesAdded> {
  const { count, reason, spec } = input;
  const journal = new Journal({ swarm: spec.name, cause: "capacity", title: `Add ${counted(count, "endpoint")}: ${reason}` });
  journal.enter("joining");
  const machines: string[] = [];
  for (let first = 0; first < count; first += LIMITS.control.launchesAtOnceMax) {
    const numbers = Array.from(
      { length: Math.min(LIMITS.control.launchesAtOnceMax, count - first) },
      (_, index) => first + index,
    );
    const names = await Promise.all(numbers.map((number) => addOne(journal, input, number)));
    for (const name of names) if (name !== undefined) machines.push(name);
  }
  const text = `${machines.length} of ${counted(count, "endpoint")} in service${machines.length === 0 ? "" : `: ${machines.join(", ")}`}. ${reason}`;
  const launched = machines.filter((machine) => !input.ghosts.includes(machine)).length;
  const end = { action: "add endpoints", wanted: count, machines, launched, text, signal: endpointsAddedSignal };
  return await endLaunch(journal, end);
}

/** Its name, or undefined when it could not be brought into service; then nothing of it is left. */
async function addOne(journal: Journal, input: AddInput, number: number): Promise<string | undefined> {
  const { reason, spec } = input;
  const request = { ghost: input.ghosts[number], image: spec.endpoints.image, reason, name: `endpoint-${number + 1}` };
  let machine: string | undefined;
  try {
    machine = await obtainMachine(journal, request);
    await joinAndProbe(journal, machine, request);
    await giveWeight(journal, machine, spec.endpoints.weight, request);
    journal.note(`${machine} serves.`);
    return machine;
  } catch (thrown) {
    journal.note(`Endpoint ${number + 1} failed: ${reasonOf(thrown)}`);
    if (machine !== undefined) await removeMachine(journal, machine, { reason, name: `undo-${number + 1}` });
    return undefined;
  }
}
