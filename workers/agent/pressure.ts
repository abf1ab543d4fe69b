/** Time that tasks stood still for want of CPU, memory or I/O, as the kernel's pressure stall information (PSI) counts it. */
import { join } from "node:path";
import { fileText } from "./proc-files.ts";

export type PressureResource = "cpu" | "memory" | "io";

export interface PressureSources {
  /** Folder of the endpoint's control group. Only version 2 counts pressure for each group. */
  readonly cgroup?: string | undefined;
  /** The machine is the endpoint's alone: then what the machine counts is the endpoint's too. */
  readonly ownMachine: boolean;
  /** Where the kernel's own files are. */
  readonly proc?: string;
}

/**
 * Seconds since the machine's or the group's start in which some (or all) of its tasks were stalled. The group's own count goes first; where
 * it has none (version 1, or PSI switched off for groups), the machine's, if that is the endpoint's. Undefined: nobody counts it.
 */
export function stalledS(
  resource: PressureResource,
  kind: "some" | "full",
  { cgroup, ownMachine, proc = "/proc" }: PressureSources,
): number | undefined {
  const group = cgroup === undefined ? undefined : totalS(join(cgroup, `${resource}.pressure`), kind);
  return group ?? (ownMachine ? totalS(join(proc, "pressure", resource), kind) : undefined);
}

function totalS(path: string, kind: "some" | "full"): number | undefined {
  const totalUs = new RegExp(`^${kind} .*total=(\\d+)`, "m").exec(fileText(path) ?? "")?.[1];
  return totalUs === undefined ? undefined : Number(totalUs) / 1e6;
}
