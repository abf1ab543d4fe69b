/**
 * Throws the stop switch on both of its ways: the database's row, which every step reads before it changes anything, and an update of
 * each swarm's workflow, which stops deciding at once. One of them is enough.
 */
import type { Command } from "commander";
import { messageOf } from "../models/errors.ts";
import { assertApplied, me, withStore, withTemporal } from "./control.ts";
import { print } from "./output.ts";

export interface Switch {
  readonly on: boolean;
  readonly reason: string;
  readonly swarm?: string;
}

export async function throwSwitch(wanted: Switch, command: Command): Promise<void> {
  const [stored, told] = await Promise.allSettled([writeRow(wanted), tellSwarms(wanted)]);
  // The row alone does it, and the swarms read it; without the row only the update can, and it has to write the row itself.
  if (stored.status === "rejected" && told.status === "rejected") throw stored.reason;
  const warnings = [stored, told].flatMap((one) => (one.status === "rejected" ? [messageOf(one.reason)] : []));
  const scope = wanted.swarm ?? "all swarms";
  const result = { scope, stopped: wanted.on, swarmsTold: told.status === "fulfilled" ? told.value : [], warnings };
  print(command, result, () => {
    const done = wanted.on ? `Automation is stopped for ${scope}.` : `Automation acts again for ${scope}.`;
    return [done, ...warnings.map((warning) => `Note: ${warning}`)].join("\n");
  });
}

/** UNKNOWN_SWARM where nothing of that name would heed it: a mistyped name stops nobody. */
function writeRow({ on, reason, swarm }: Switch): Promise<void> {
  return withStore(async (store) => {
    if (swarm !== undefined) await assertApplied(store, swarm);
    await store.setStopSwitch({ scope: swarm ?? "*", on, by: me(), reason });
  });
}

function tellSwarms({ on, reason, swarm }: Switch): Promise<readonly string[]> {
  return withTemporal(async (temporal) => {
    const swarms = swarm === undefined ? await temporal.swarms() : [swarm];
    const scope = swarm === undefined ? "all" : "swarm";
    const request = { scope, by: me(), reason } as const;
    const tell = (name: string) =>
      on ? temporal.stopAutomation({ swarm: name, ...request }) : temporal.resumeAutomation({ swarm: name, ...request });
    await Promise.all(swarms.map(tell));
    return swarms;
  });
}
