/** Whether this machine can build an image and boot it; where not, why, for the test runner to print. */
import { which } from "../../setup/exec.ts";
import { findQemu } from "../../setup/find.ts";

const LEFT_OUT = "FORESHIFT_TEST_VMS=0 leaves virtual machines out";

/** `false`, or why tests of images are skipped. */
export async function whyNoImage(): Promise<string | false> {
  if (process.arch !== "x64") return `images are built for x86-64 processors, and this one is ${process.arch}`;
  if ((await which("apt-get")) === undefined) return "an image is built from Debian packages, and apt-get is not here";
  return false;
}

/** `false`, or why tests of virtual machines are skipped. */
export async function whyNoMachines(
  env: NodeJS.ProcessEnv = process.env,
  find: typeof findQemu = findQemu,
): Promise<string | false> {
  const noImage = await whyNoImage();
  if (noImage !== false) return noImage;
  if (env["FORESHIFT_TEST_VMS"] === "0") return LEFT_OUT;
  const qemu = await find();
  return qemu.source === "missing" ? `QEMU is not here: install ${qemu.debianPackage}` : false;
}

/** The same for those in which guests take many minutes: they run when they are asked for. */
export async function whyNoLongMachines(env: NodeJS.ProcessEnv = process.env): Promise<string | false> {
  if (env["FORESHIFT_TEST_VMS"] !== "1") return "these virtual machines take many minutes: FORESHIFT_TEST_VMS=1 runs them";
  return await whyNoMachines(env);
}
