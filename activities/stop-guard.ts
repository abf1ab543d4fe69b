/**
 * The stop switch as activities see it. The store's rows are the one truth: they hold when Temporal is down, and when they cannot
 * be read nothing is changed.
 */
import type { StopSwitch, Store } from "../drivers/ports.ts";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";

export const EVERY_SWARM = "*";

export interface StopGuard {
  /** AUTOMATION_STOPPED while the switch of this swarm, or of all, is on. */
  assertMayAct(swarm: string): Promise<void>;
  /** The switch that is on for this swarm, read no longer ago than the limit. */
  switchFor(swarm: string): Promise<StopSwitch | undefined>;
  /** The next reading asks the store. */
  forget(): void;
}

/** Reads are shared by all activities of the process for `stopSwitchAgeMsMax`, counted from the moment the question was asked. */
export function createStopGuard(store: Store, nowMs: () => number = Date.now): StopGuard {
  let reading: Promise<readonly StopSwitch[]> | undefined;
  let askedAtMs = 0;

  function read(): Promise<readonly StopSwitch[]> {
    if (reading !== undefined && nowMs() - askedAtMs < LIMITS.control.stopSwitchAgeMsMax) return reading;
    askedAtMs = nowMs();
    const asked = store.stopSwitches();
    reading = asked;
    asked.catch(() => {
      if (reading === asked) reading = undefined;
    });
    return asked;
  }

  async function switchFor(swarm: string): Promise<StopSwitch | undefined> {
    const on = await read();
    return on.find((found) => found.scope === EVERY_SWARM) ?? on.find((found) => found.scope === swarm);
  }

  return {
    switchFor,
    async assertMayAct(swarm) {
      const found = await switchFor(swarm);
      if (found !== undefined) throw new ForeshiftError("AUTOMATION_STOPPED", { value: swarm });
    },
    forget() {
      reading = undefined;
    },
  };
}
