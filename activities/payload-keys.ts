/**
 * Steps of a rotation of the transit key: a further version, every data key wrapped anew by it, and only then the old versions given up.
 */
import { counted } from "../models/words.ts";
import { type ActivityDeps, asActivity, asFinish, asStep, type StepInput } from "./deps.ts";

export function payloadKeyActivities(deps: ActivityDeps) {
  return {
    latestTransitVersion(): Promise<number> {
      return asActivity(() => deps.payloadKeys.latestVersion());
    },

    /** The version after `after`, once: asked again when it is there, it is answered. */
    rotateTransit(input: StepInput & { after: number }): Promise<number> {
      return asStep(deps, input, "rotate the transit key", async () => {
        const latest = await deps.payloadKeys.latestVersion();
        const version = latest > input.after ? latest : await deps.payloadKeys.rotate();
        const outcome = latest > input.after ? "already-done" : "done";
        return { result: version, outcome, text: `Version ${version} wraps data keys from here on`, details: { version } };
      });
    },

    /** One bounded batch. */
    rewrapDataKeys(input: StepInput): Promise<{ readonly rewrapped: number; readonly left: number }> {
      return asStep(deps, input, "rewrap data keys", async () => {
        const result = await deps.payloadKeys.rewrapSome();
        const text = `${counted(result.rewrapped, "data key")} wrapped anew, ${result.left} left`;
        return { result, text, details: result };
      });
    },

    retireTransit(input: StepInput): Promise<number> {
      return asFinish(deps, input, "give up old versions of the transit key", async () => {
        const oldest = await deps.payloadKeys.retireOld();
        return { result: oldest, text: `Nothing older than version ${oldest} opens anything any more`, details: { oldest } };
      });
    },
  };
}
