/**
 * Boots an image and lets it test itself: modules, programs, the agent, a root that cannot be written, no secrets inside.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { VirtualMachine } from "../drivers/qemu/virtual-machine.ts";
import { ForeshiftError } from "../models/errors.ts";
import { EMULATED_LIMITS, MACHINE_LIMITS } from "../models/limits-machines.ts";
import type { Image } from "../setup/image/build.ts";
import { TESTED_MODULES, TESTED_PROGRAMS } from "../setup/image/recipe.ts";
import { makePaths, paths } from "../setup/paths.ts";

export interface ImageCheck {
  readonly what: string;
  readonly ok: boolean;
  /** Why not; empty when it is. */
  readonly why: string;
}

export interface ImageVerdict {
  readonly digest: string;
  readonly accelerator: string;
  /** From QEMU's start until the agent in the guest answered. */
  readonly bootSeconds: number;
  readonly checks: readonly ImageCheck[];
}

/** VERIFY_FAILED, naming what failed; errors of the machine when it does not even boot. */
export async function verifyImage(image: Image): Promise<ImageVerdict> {
  await makePaths(paths());
  const folder = await mkdtemp(join(paths().run, "verify-"));
  const startedAtMs = performance.now();
  try {
    const machine = await VirtualMachine.launch({
      name: "verify",
      image: image.folder,
      folder,
      sockets: join(folder, "qemu"),
      files: [],
    });
    try {
      await machine.ready();
      const bootSeconds = Math.round((performance.now() - startedAtMs) / 100) / 10;
      const { accelerator } = await machine.describe();
      const { selfTestTimeoutMs } = accelerator === "tcg" ? EMULATED_LIMITS : MACHINE_LIMITS;
      const checks = await selfTest(machine, selfTestTimeoutMs);
      const verdict = { digest: image.digest, accelerator, bootSeconds, checks };
      refuseFailed(verdict);
      return verdict;
    } finally {
      await machine.terminate();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function selfTest(machine: VirtualMachine, timeoutMs: number): Promise<ImageCheck[]> {
  const programs = Object.entries(TESTED_PROGRAMS).map(([program, args]) => [program, ...args].join(" "));
  const done = await machine.run(["/usr/bin/foreshift-self-test", ...TESTED_MODULES, "--", ...programs], { timeoutMs });
  const lines = done.stdout.split("\n").flatMap((line) => /^(ok|failed) (.*)$/.exec(line)?.slice(1) ?? []);
  const checks: ImageCheck[] = [];
  for (let at = 0; at + 1 < lines.length; at += 2) {
    const [ok, text = ""] = [lines[at] === "ok", lines[at + 1]];
    const what = /^(module|program) \S+|^[a-z -]+/.exec(text)?.[0].trim() ?? text;
    checks.push({ what, ok, why: ok ? "" : text.slice(what.length).trim() });
  }
  return [...checks, await serialLine(machine)];
}

/** What the machine writes on its own line arrives here. */
async function serialLine(machine: VirtualMachine): Promise<ImageCheck> {
  const word = "foreshift-line";
  const said = new Promise<boolean>((resolve) => {
    machine.line.once("data", (bytes: Buffer) => resolve(bytes.toString().includes(word)));
    machine.line.once("close", () => resolve(false));
  });
  const { status, stderr } = await machine.run(["/usr/bin/sh", "-c", `echo ${word} > /dev/virtio-ports/foreshift.line`]);
  const ok = status === 0 && (await said);
  return { what: "serial line", ok, why: ok ? "" : stderr };
}

function refuseFailed({ digest, checks }: ImageVerdict): void {
  const expected = TESTED_MODULES.length + Object.keys(TESTED_PROGRAMS).length;
  const failed = checks.filter(({ ok }) => !ok).map(({ what, why }) => `${what} (${why})`);
  if (failed.length === 0 && checks.length > expected) return;
  const detail = failed.length === 0 ? "its self-test did not come to its end" : failed.join("; ");
  throw new ForeshiftError("IMAGE_REFUSED", { value: digest, detail });
}
