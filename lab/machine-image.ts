/** What virtual machines of the lab need: QEMU, and the image that they boot from. */
import { accelerator } from "../drivers/qemu/accelerator.ts";
import type { Processors } from "../models/patience.ts";
import { buildImage } from "../setup/image/build.ts";
import { setUpMachines } from "../setup/set-up.ts";

/** What the lab's endpoints can be. */
export const LAB_HYPERVISORS = ["netns", "qemu"] as const;
export type LabHypervisor = (typeof LAB_HYPERVISORS)[number];

/** Of machines that boot from the image in this folder, or are namespaces where there is none. */
export async function processorsFor(image: string | undefined): Promise<Processors> {
  return image !== undefined && (await accelerator(image)) === "tcg" ? "emulated" : "own";
}

/** The folder of the image, built where it is not there; undefined of namespaces, which need none. */
export async function imageFor(kind: LabHypervisor, onProgress: (text: string) => void): Promise<string | undefined> {
  if (kind === "netns") return undefined;
  await setUpMachines(onProgress);
  const { image } = await buildImage({ onProgress });
  return image.folder;
}
