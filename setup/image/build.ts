/**
 * Builds the image that every machine boots from: kernel, initial RAM file system and a read-only root, made of Debian packages and
 * this checkout's agent. The same packages and the same checkout give the same bytes, and the image's name is their digest.
 */
import { createHash } from "node:crypto";
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { MACHINE_LIMITS } from "../../models/limits-machines.ts";
import { readIfThere, writePrivate } from "../files.ts";
import { withLock } from "../lock.ts";
import { paths } from "../paths.ts";
import { type AgentFile, agentDigest, agentFiles, copyAgent } from "./agent-files.ts";
import { kernelFile, kernelVersion, trimModules, writeInitramfs } from "./kernel.ts";
import {
  bytesOf,
  fetchPackages,
  must,
  type Package,
  refreshLists,
  resolvePackages,
  runUnpacked,
  sha256Of,
  unpackPackages,
} from "./packages.ts";
import { BUILD_PACKAGES, FORESHIFT_DIR, LEFT_OUT, PACKAGES, PRUNED, RECIPE_VERSION } from "./recipe.ts";

const GUEST = join(import.meta.dirname, "guest");
const APT_LISTS = "/var/lib/apt/lists";
const FILES = ["kernel", "initrd", "root"] as const;
/** Its largest file lies there as it is: an emulated processor takes seconds to unpack what it loads of it. */
const PACKED = ["-comp", "lz4", "-b", "128K", "-action", "uncompressed@name(node)"] as const;

const Manifest = z.object({
  /** `sha256:…` over the three files; the image's name. */
  digest: z.string(),
  /** Of packages, recipe and checkout that it was made of. */
  recipe: z.string(),
  bytes: z.number(),
  kernelVersion: z.string(),
  files: z.object({ kernel: z.string(), initrd: z.string(), root: z.string() }),
});

export interface Image extends z.infer<typeof Manifest> {
  /** Where its files lie: `kernel`, `initrd`, `root`, `manifest.json`, `bill-of-materials.json`. */
  readonly folder: string;
}

export interface BuildOptions {
  /** Builds anew although there is an image of just these parts. */
  readonly noCache?: boolean;
  readonly onProgress?: (text: string) => void;
}

export interface Built {
  readonly image: Image;
  readonly seconds: number;
  readonly cached: boolean;
}

/** The image of this checkout and of the packages that are current; built where it is not there yet. */
export async function buildImage(options: BuildOptions = {}): Promise<Built> {
  if (process.arch !== "x64") {
    const detail = `images are built for x86-64 processors, and this one is ${process.arch}`;
    throw new ForeshiftError("MISSING_TOOL", { value: "an image", detail });
  }
  const report = options.onProgress ?? (() => undefined);
  const work = () => build(options.noCache ?? false, report);
  return await withLock(`image ${imagesFolder()}`, work, () => report("waiting for another build"));
}

function imagesFolder(): string {
  return join(paths().bin, "images");
}

async function build(noCache: boolean, report: (text: string) => void): Promise<Built> {
  const startedAtMs = performance.now();
  const seconds = () => Math.round((performance.now() - startedAtMs) / 100) / 10;
  const folder = imagesFolder();
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const agent = await agentFiles(paths().project);
  const parts = await currentParts(folder, report);
  const recipe = await recipeDigest(parts, agent);
  const there = noCache ? undefined : await findImage(folder, recipe);
  if (there !== undefined) return { image: there, seconds: seconds(), cached: true };
  await removePartial(folder);
  const work = await mkdtemp(join(folder, ".partial-"));
  try {
    const packages = await fetchParts(parts, folder, report);
    await assemble({ work, packages, cache: join(folder, "packages"), agent, report });
    const image = await publish({ work: join(work, "image"), folder, recipe, packages: packages.image });
    await forgetOld(folder, image.folder);
    return { image, seconds: seconds(), cached: false };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

const Packages = z.array(z.object({ name: z.string(), version: z.string(), sha256: z.string(), bytes: z.number() }));
const Parts = z.object({ image: Packages, tools: Packages });
type Parts = z.infer<typeof Parts>;
const Resolved = z.object({ key: z.string(), parts: Parts });

/** Which packages are current follows from apt's lists, and asking takes seconds: asked once for each state of the lists. */
async function currentParts(folder: string, report: (text: string) => void): Promise<Parts> {
  const names = (await readdir(APT_LISTS).catch((): string[] => [])).sort();
  const times = await Promise.all(names.map(async (name) => `${name} ${(await stat(join(APT_LISTS, name))).mtimeMs}`));
  const settings = JSON.stringify([RECIPE_VERSION, PACKAGES, BUILD_PACKAGES, LEFT_OUT.source, times]);
  const file = join(folder, "packages.json");
  const key = createHash("sha256").update(settings).digest("hex");
  const known = Resolved.safeParse(JSON.parse((await readIfThere(file)) ?? "{}"));
  if (known.success && known.data.key === key) return known.data.parts;
  const parts = await resolveParts(report);
  await writePrivate(file, JSON.stringify({ key, parts }));
  return parts;
}

async function resolveParts(report: (text: string) => void): Promise<Parts> {
  const image = await resolvePackages(PACKAGES, LEFT_OUT, report);
  return { image, tools: await resolvePackages(BUILD_PACKAGES, LEFT_OUT, report) };
}

/** Mirrors drop a version once there is a newer one: then the lists are old, and asked for anew. */
async function fetchParts(parts: Parts, folder: string, report: (text: string) => void): Promise<Parts> {
  const fetchAll = ({ image, tools }: Parts) => {
    const unique = new Map([...image, ...tools].map((one) => [one.sha256, one]));
    return fetchPackages([...unique.values()], join(folder, "packages"), report);
  };
  try {
    await fetchAll(parts);
    return parts;
  } catch (thrown) {
    if (process.getuid?.() !== 0) throw thrown;
    await refreshLists(report);
    const current = await resolveParts(report);
    await fetchAll(current);
    return current;
  }
}

async function recipeDigest(parts: Parts, agent: readonly AgentFile[]): Promise<string> {
  const hash = createHash("sha256").update(JSON.stringify([RECIPE_VERSION, parts]));
  const own = (await readdir(import.meta.dirname, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  for (const file of own.map((entry) => join(entry.parentPath, entry.name)).sort()) hash.update(await sha256Of(file));
  return hash.update(await agentDigest(agent)).digest("hex");
}

interface Assembly {
  readonly work: string;
  readonly packages: Parts;
  /** Where the packages' files lie. */
  readonly cache: string;
  readonly agent: readonly AgentFile[];
  readonly report: (text: string) => void;
}

async function assemble({ work, packages, cache, agent, report }: Assembly): Promise<void> {
  const [root, tools, image] = ["root", "tools", "image"].map((name) => join(work, name)) as [string, string, string];
  report("unpacking");
  await mkdir(image);
  await Promise.all([unpackPackages(packages.image, cache, root), unpackPackages(packages.tools, cache, tools)]);
  const version = await kernelVersion(root);
  await copyFile(kernelFile(root, version), join(image, "kernel"));
  await Promise.all(PRUNED.map((path) => rm(join(root, path), { recursive: true, force: true })));
  await trimModules(root, tools, version);
  await copyAgent(agent, root, FORESHIFT_DIR);
  await furnish(root);
  await writeInitramfs(root, version, join(image, "initrd"));
  await writeFile(join(image, "kernel-version"), version);
  report("packing");
  await normalise(root);
  const settings = ["-noappend", "-all-root", "-no-xattrs", "-no-progress", "-quiet", "-mkfs-time", "0", "-all-time", "0"];
  await runUnpacked(tools, "usr/bin/mksquashfs", [root, join(image, "root"), ...settings, ...PACKED]);
}

/** What no package brings: the first process, users, mount points, and names for what busybox can do. */
async function furnish(root: string): Promise<void> {
  for (const path of ["dev", "proc", "sys", "run", "tmp", "var", "root", "etc", "usr/lib/foreshift"])
    await mkdir(join(root, path), { recursive: true });
  await rm(join(root, "usr/sbin/init"), { force: true });
  const programs = { init: "usr/sbin/init", "self-test": "usr/bin/foreshift-self-test", dhcp: "usr/lib/foreshift/dhcp" };
  for (const [name, to] of Object.entries(programs)) {
    await copyFile(join(GUEST, name), join(root, to));
    await chmod(join(root, to), 0o755);
  }
  // The guest agent sets the clock only where it can then write the hardware's, which nobody reads: a machine does not restart.
  await rm(join(root, "usr/sbin/hwclock"), { force: true });
  await writeFile(join(root, "usr/sbin/hwclock"), "#!/bin/sh\nexit 0\n", { mode: 0o755 });
  await writeFile(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
  await writeFile(join(root, "etc/group"), "root:x:0:\n");
  // Written by DHCP, where there is any.
  await symlink("/run/resolv.conf", join(root, "etc/resolv.conf"));
  // Busybox's own shell prefers its own poorer tools to those of the packages.
  await rm(join(root, "usr/bin/sh"), { force: true });
  await symlink("dash", join(root, "usr/bin/sh"));
  const listed = await must(join(root, "usr/bin/busybox"), ["--list"]);
  for (const applet of listed.split("\n").filter((name) => name !== "")) {
    const there = await Promise.all(["bin", "sbin"].map((folder) => exists(join(root, "usr", folder, applet))));
    if (!there.includes(true)) await symlink("busybox", join(root, "usr/bin", applet));
  }
}

async function exists(path: string): Promise<boolean> {
  return await readlink(path).then(
    () => true,
    async () => (await stat(path).catch(() => undefined)) !== undefined,
  );
}

/** The person's umask must not be seen in the image. */
async function normalise(root: string): Promise<void> {
  await must("chmod", ["-R", "u+rwX,go+rX,go-w", root]);
  await utimes(root, 0, 0);
}

async function publish(built: { work: string; folder: string; recipe: string; packages: readonly Package[] }): Promise<Image> {
  const { work, folder, recipe, packages } = built;
  const version = await readFile(join(work, "kernel-version"), "utf8");
  await rm(join(work, "kernel-version"));
  const hashes = await Promise.all(FILES.map((name) => sha256Of(join(work, name))));
  const [kernel = "", initrd = "", root = ""] = hashes;
  const bytes = (await Promise.all(FILES.map((name) => bytesOf(join(work, name))))).reduce((sum, one) => sum + one, 0);
  const digest = createHash("sha256").update(hashes.join("\n")).digest("hex");
  const manifest = { digest: `sha256:${digest}`, recipe, bytes, kernelVersion: version, files: { kernel, initrd, root } };
  await writeFile(join(work, "bill-of-materials.json"), `${JSON.stringify({ digest: manifest.digest, packages }, null, 2)}\n`);
  await writeFile(join(work, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  const target = join(folder, digest);
  await rm(target, { recursive: true, force: true });
  await rename(work, target);
  return { ...manifest, folder: target };
}

/** The image that was made of just this; one that was cut short has no manifest. */
async function findImage(folder: string, recipe: string): Promise<Image | undefined> {
  return (await listImages(folder)).find((image) => image.recipe === recipe);
}

async function listImages(folder: string): Promise<Image[]> {
  const names = (await readdir(folder)).filter((name) => /^[0-9a-f]{64}$/.test(name));
  const found = await Promise.all(names.map((name) => readImage(join(folder, name)).catch(() => undefined)));
  return found.filter((image) => image !== undefined);
}

async function readImage(folder: string): Promise<Image> {
  try {
    return { ...Manifest.parse(JSON.parse(await readFile(join(folder, "manifest.json"), "utf8"))), folder };
  } catch (thrown) {
    throw new ForeshiftError("DISK", { value: folder, detail: messageOf(thrown) });
  }
}

/** Running machines keep the files that they have opened. */
async function forgetOld(folder: string, keep: string): Promise<void> {
  const images = await listImages(folder);
  const aged = await Promise.all(images.map(async (image) => ({ image, atMs: (await stat(image.folder)).mtimeMs })));
  const newest = aged.sort((one, other) => other.atMs - one.atMs).slice(MACHINE_LIMITS.imagesKeptMax);
  for (const { image } of newest) if (image.folder !== keep) await rm(image.folder, { recursive: true, force: true });
}

/** What an interrupted build left; the lock keeps a running one from being mistaken for it. */
async function removePartial(folder: string): Promise<void> {
  const names = (await readdir(folder)).filter((name) => basename(name).startsWith(".partial-"));
  await Promise.all(names.map((name) => rm(join(folder, name), { recursive: true, force: true })));
}
