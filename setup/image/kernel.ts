/**
 * The kernel's share of the image: which modules stay, and the initial RAM file system that finds the root.
 */
import { cp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { ForeshiftError } from "../../models/errors.ts";
import { CHARACTER_DEVICE_MODE, type CpioEntry, cpio, FILE_MODE, FOLDER_MODE, PROGRAM_MODE } from "./cpio.ts";
import { runUnpacked } from "./packages.ts";
import { EARLY_MODULES, KERNEL_FOLDERS } from "./recipe.ts";

const GUEST = join(import.meta.dirname, "guest");

/** Version of the kernel that was unpacked. */
export async function kernelVersion(root: string): Promise<string> {
  const versions = await readdir(join(root, "usr/lib/modules"));
  const [version] = versions;
  if (version !== undefined && versions.length === 1) return version;
  throw new ForeshiftError("COMMAND_FAILED", { field: "the kernel's package", detail: `it holds ${versions.length} kernels` });
}

/** Removes the modules that no virtual machine needs, and writes the index of those that stay. */
export async function trimModules(root: string, tools: string, version: string): Promise<void> {
  const modules = join(root, "usr/lib/modules", version);
  const kept = join(modules, "kept");
  for (const folder of KERNEL_FOLDERS) {
    const from = join(modules, "kernel", folder);
    // A release may have it elsewhere or built in; the self-test says what is missing.
    if ((await stat(from).catch(() => undefined)) === undefined) continue;
    await cp(from, join(kept, folder), { recursive: true, preserveTimestamps: true });
  }
  await rm(join(modules, "kernel"), { recursive: true });
  await cp(kept, join(modules, "kernel"), { recursive: true, preserveTimestamps: true });
  await rm(kept, { recursive: true });
  await runUnpacked(tools, "usr/bin/kmod", ["-b", root, version], "depmod");
}

/** Busybox and the modules that it takes to mount the root. */
export async function writeInitramfs(root: string, version: string, file: string): Promise<void> {
  const modules = join(root, "usr/lib/modules", version);
  const order = loadOrder(await readFile(join(modules, "modules.dep"), "utf8"));
  const entries: CpioEntry[] = [
    ...["bin", "dev", "modules", "proc", "root", "sys"].map((path) => ({ path, mode: FOLDER_MODE })),
    { path: "dev/console", mode: CHARACTER_DEVICE_MODE, device: [5, 1] },
    { path: "init", mode: PROGRAM_MODE, content: await readFile(join(GUEST, "initramfs-init")) },
    { path: "bin/busybox", mode: PROGRAM_MODE, content: await readFile(join(root, "usr/bin/busybox")) },
    { path: "modules/order", mode: FILE_MODE, content: Buffer.from(`${order.map((path) => basename(path)).join("\n")}\n`) },
  ];
  for (const path of order) {
    entries.push({ path: `modules/${basename(path)}`, mode: FILE_MODE, content: await readFile(join(modules, path)) });
  }
  await writeFile(file, cpio(entries));
}

/** Paths of the early modules, what each needs before it; `modules.dep` lists needs from the nearest to the farthest. */
function loadOrder(index: string): string[] {
  const needs = new Map(
    index.split("\n").map((line) => {
      const [path = "", rest = ""] = line.split(":");
      return [path, rest.split(" ").filter((one) => one !== "")];
    }),
  );
  const byName = new Map([...needs.keys()].map((path) => [basename(path).replace(/\.ko.*$/, ""), path]));
  const order: string[] = [];
  for (const name of EARLY_MODULES) {
    const path = byName.get(name);
    // Built into the kernel.
    if (path === undefined) continue;
    for (const one of [...(needs.get(path) ?? []).toReversed(), path]) if (!order.includes(one)) order.push(one);
  }
  return order;
}

/** Where the package keeps the kernel itself. */
export function kernelFile(root: string, version: string): string {
  return join(root, "boot", `vmlinuz-${version}`);
}
