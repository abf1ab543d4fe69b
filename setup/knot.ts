/**
 * A real DNS server that takes dynamic updates, which the tests of a name as a front door run against: `knotd` on PATH, else Debian's
 * package where this user may install it. Nothing but tests needs it, so the set-up does not bring it.
 */
import { messageOf } from "../models/errors.ts";
import { which } from "./exec.ts";
import { installPackages } from "./system.ts";

const KNOT = { name: "knotd", purpose: "takes dynamic updates of names", debianPackage: "knot" } as const;

export interface KnotProgram {
  readonly command: string;
}

/** A sentence where this machine cannot have it. */
export async function bringKnot(): Promise<KnotProgram | string> {
  const found = await which(KNOT.name);
  if (found !== undefined) return { command: found };
  try {
    await installPackages([{ ...KNOT, source: "missing", where: "not on PATH" }], () => undefined);
  } catch (thrown) {
    return `there is no knotd, and it cannot be installed: ${messageOf(thrown)}`;
  }
  const installed = await which(KNOT.name);
  return installed === undefined ? "Debian's package brought no knotd" : { command: installed };
}
