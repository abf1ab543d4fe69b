/**
 * Rotates the keys of one kind. Its id is `rotate/SWARM/KIND`, so that there is one at a time; a schedule or a person starts it.
 */
import { continueAsNew, setHandler } from "@temporalio/workflow";
import type { KeysRotated, RotateInput } from "../models/keys.ts";
import { rotationQuery } from "./messages.ts";
import { rotateCertificates } from "./rotate-certificates.ts";
import { rotatePreshared } from "./rotate-preshared.ts";
import { rotateStatic } from "./rotate-static.ts";
import { rotateTransit } from "./rotate-transit.ts";
import { Rotation } from "./rotation.ts";

export async function rotateKeys(input: RotateInput): Promise<KeysRotated> {
  const rotation = new Rotation(input);
  setHandler(rotationQuery, () => rotation.status(), { description: "How far it is, and what it had to leave out" });
  if (input.kind === "transit") return await rotateTransit(rotation);
  if (input.kind === "certificates") return await rotateCertificates(rotation);
  const finished = await (input.kind === "static" ? rotateStatic : rotatePreshared)(rotation);
  return finished ?? (await continueAsNew<typeof rotateKeys>({ ...input, ...rotation.carried }));
}
