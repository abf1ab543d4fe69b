/** Packages of the operating system: installed where Foreshift runs as root on Debian or Ubuntu, named everywhere else. */
import { ForeshiftError } from "../models/errors.ts";
import { exec, which } from "./exec.ts";
import type { Part } from "./find.ts";
import { SETUP_LIMITS } from "./limits.ts";
import { withLock } from "./lock.ts";

const APT_OPTIONS = ["-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"];

/** The Debian packages that hold these parts. */
export function packagesOf(parts: readonly Part[]): string[] {
  const names = parts.flatMap(({ debianPackage }) => (debianPackage === undefined ? [] : [debianPackage]));
  return [...new Set(names)].sort();
}

/** The one line that brings them, to be typed by a person. */
export async function installCommand(packages: readonly string[]): Promise<string> {
  if ((await which("apt-get")) === undefined) return `install with this system's package manager: ${packages.join(" ")}`;
  const sudo = process.getuid?.() === 0 ? "" : "sudo ";
  return `${sudo}apt-get update && ${sudo}apt-get install -y ${packages.join(" ")}`;
}

/** Installs them as root with apt; otherwise MISSING_TOOL with the line to type. */
export async function installPackages(parts: readonly Part[], onProgress: (text: string) => void): Promise<void> {
  const packages = packagesOf(parts);
  if (packages.length === 0) return;
  const command = await installCommand(packages);
  if (process.getuid?.() !== 0 || (await which("apt-get")) === undefined) {
    throw new ForeshiftError("MISSING_TOOL", { value: parts.map(({ name }) => name).join(", "), detail: command });
  }
  await withLock(
    "system packages",
    () => aptInstall(packages, onProgress),
    () => onProgress("waiting for another set-up"),
  );
}

async function aptInstall(packages: readonly string[], onProgress: (text: string) => void): Promise<void> {
  const settings = {
    timeoutMs: SETUP_LIMITS.packageManagerTimeoutMs,
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C" },
  };
  onProgress(`installing ${packages.join(" ")}`);
  // The package lists may be missing or old; only then is the index asked again.
  let done = await exec("apt-get", ["install", ...APT_OPTIONS, ...packages], settings);
  if (!done.ok) {
    onProgress("refreshing the package lists");
    await exec("apt-get", ["update"], settings);
    done = await exec("apt-get", ["install", ...APT_OPTIONS, ...packages], settings);
  }
  if (!done.ok) {
    const detail = done.stderr.trim().split("\n").at(-1) ?? "";
    throw new ForeshiftError("COMMAND_FAILED", { field: `apt-get install ${packages.join(" ")}`, detail });
  }
}
