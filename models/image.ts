/**
 * What machines boot from, by name: an image never changes, so its name says all there is to say. Which one is in force.
 */
import { z } from "zod";
import type { SwarmState } from "./swarm-state.ts";

/** Of a digest: as many digits as tell images apart for a person. */
const DIGITS_SHOWN = 12;

export const ImageName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._:-]{0,127}$/,
    "expected an image's name: sha256:… as `foreshift image build` prints it, or ami-… on EC2",
  );

export function shortImage(image: string): string {
  const digest = /^sha256:([0-9a-f]+)$/.exec(image)?.[1];
  return digest === undefined ? image : `sha256:${digest.slice(0, DIGITS_SHOWN)}`;
}

/** What a machine that is launched boots from: what was rolled out last, else the swarm file's; undefined: the hypervisor's own. */
export function imageInForce(state: SwarmState): string | undefined {
  return state.image ?? state.spec.endpoints.image;
}

/** Where nothing is in force, or nobody says what a machine boots from, nothing is of another image. */
export function isOfAnother(image: string | undefined, inForce: string | undefined): boolean {
  return typeof image === "string" && typeof inForce === "string" && image !== inForce;
}
