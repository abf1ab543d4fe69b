/**
 * How guests' processors are run: by KVM where it is tried and works, else emulated (TCG). A /dev/kvm may exist, open, run a PC's
 * firmware and then hang, so what is tried is whether the image's own kernel comes as far as its first program in time.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { MACHINE_LIMITS } from "../../models/limits-machines.ts";

export type Accelerator = "kvm" | "tcg";

export const QEMU = "qemu-system-x86_64";

/** What the initial RAM file system says first. */
const FIRST_WORD = "foreshift: begins";

let known: Promise<Accelerator> | undefined;

/** Tried once in a process, with an image's folder. */
export function accelerator(image: string): Promise<Accelerator> {
  known ??= existsSync("/dev/kvm") ? probeKvm(image) : Promise.resolve("tcg");
  return known;
}

async function probeKvm(image: string): Promise<Accelerator> {
  const kernel = [
    "-kernel",
    join(image, "kernel"),
    "-initrd",
    join(image, "initrd"),
    "-append",
    "console=ttyS0 quiet panic=-1",
  ];
  const bare = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "128M", "-serial", "stdio"];
  const command = [QEMU, "-M", "pc", "-accel", "kvm", "-cpu", "host", ...bare, ...kernel];
  return (await saysInTime(command, FIRST_WORD, MACHINE_LIMITS.kvmProbeTimeoutMs)) ? "kvm" : "tcg";
}

/** Whether the command says the word in time; it is ended either way. */
export async function saysInTime([file = "", ...args]: readonly string[], word: string, timeoutMs: number): Promise<boolean> {
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "ignore"] });
  try {
    return await new Promise<boolean>((resolve) => {
      const late = setTimeout(() => resolve(false), timeoutMs);
      const decide = (works: boolean) => {
        clearTimeout(late);
        resolve(works);
      };
      let said = "";
      child.stdout.setEncoding("latin1").on("data", (text: string) => {
        said += text;
        if (said.includes(word)) decide(true);
      });
      child.once("error", () => decide(false));
      child.once("close", () => decide(false));
    });
  } finally {
    // One that hangs in the kernel may never end, and is not waited for.
    child.kill("SIGKILL");
    child.stdout.destroy();
    child.unref();
  }
}
