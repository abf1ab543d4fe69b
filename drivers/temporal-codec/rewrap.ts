/**
 * What follows a rotation of the transit key: every registered data key is wrapped anew, a batch at a time, so that the old versions can
 * be given up without losing a payload.
 */
import { ForeshiftError } from "../../models/errors.ts";
import { CODEC_LIMITS } from "../../models/limits-codec.ts";
import type { DataKeyRegistry } from "../store/data-keys.ts";
import type { Transit } from "../vault/transit.ts";
import { wrapVersion } from "./envelope.ts";

export interface RewrapResult {
  readonly rewrapped: number;
  /** Data keys that are still wrapped by an older version than the latest. */
  readonly left: number;
}

export interface RewrapParts {
  readonly transit: Pick<Transit, "rewrap" | "versions" | "raiseMinimum">;
  readonly registry: DataKeyRegistry;
}

/**
 * One batch (CODEC_LIMITS.rewrapBatchMax); to be called until nothing is left, the last time no sooner than
 * CODEC_LIMITS.registerWithinMs after the rotation: a key that was made just before is in the registry by then. Made again it does no harm.
 */
export async function rewrapDataKeys({ transit, registry }: RewrapParts): Promise<RewrapResult> {
  const { latest } = await transit.versions();
  const batch = await registry.olderThan(latest, CODEC_LIMITS.rewrapBatchMax);
  const wraps = await transit.rewrap(batch.map(({ wrapped }) => wrapped));
  for (const [at, { id }] of batch.entries()) {
    const wrapped = wraps[at] ?? "";
    await registry.replaceWrap({ id, wrapped, version: wrapVersion(wrapped) });
  }
  return { rewrapped: batch.length, left: await registry.countOlderThan(latest) };
}

/** Gives the versions up that no data key needs; NOT_READY while one does. Answers the oldest version that is left. */
export async function retireTransitVersions({ transit, registry }: RewrapParts): Promise<number> {
  const { latest } = await transit.versions();
  const left = await registry.countOlderThan(latest);
  if (left > 0) {
    const detail = `${left} data keys are wrapped by an older version than ${latest}; rewrap them first`;
    throw new ForeshiftError("NOT_READY", { value: "the transit key", detail });
  }
  await transit.raiseMinimum(latest);
  return latest;
}
