/**
 * Debian packages as files: which they are, with their versions and hashes, and how they are brought and unpacked. Nothing is
 * installed on this machine, and nobody needs to be root.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { ForeshiftError } from "../../models/errors.ts";
import { MACHINE_LIMITS } from "../../models/limits-machines.ts";
import { exec, which } from "../exec.ts";

export interface Package {
  readonly name: string;
  readonly version: string;
  readonly sha256: string;
  readonly bytes: number;
}

type Report = (text: string) => void;

/** No package of this machine counts as there, and recommendations are no part of an image. */
const FROM_NOTHING = ["-o", "Dir::State::status=/dev/null", "-o", "APT::Install-Recommends=false"];
const QUERY = { timeoutMs: MACHINE_LIMITS.packageQueryTimeoutMs, env: { ...process.env, LC_ALL: "C" } };

/** The packages and all that they depend on, but those that `leftOut` names; by name. MISSING_TOOL without apt, or its lists. */
export async function resolvePackages(names: readonly string[], leftOut: RegExp, report: Report): Promise<Package[]> {
  if ((await which("apt-get")) === undefined || (await which("dpkg-deb")) === undefined) {
    const detail = "an image is built from Debian packages, which needs a Debian or Ubuntu with apt-get and dpkg-deb";
    throw new ForeshiftError("MISSING_TOOL", { value: "apt-get", detail });
  }
  try {
    return await closure(names, leftOut);
  } catch (thrown) {
    // The package lists of a fresh machine or container are empty; root alone may fill them.
    if (process.getuid?.() !== 0) throw thrown;
    await refreshLists(report);
    return await closure(names, leftOut);
  }
}

export async function refreshLists(report: Report): Promise<void> {
  report("refreshing the package lists");
  await exec("apt-get", ["update"], { ...QUERY, timeoutMs: MACHINE_LIMITS.packageDownloadTimeoutMs });
}

async function closure(names: readonly string[], leftOut: RegExp): Promise<Package[]> {
  const asked = await exec("apt-get", [...FROM_NOTHING, "install", "-y", "--print-uris", ...names], QUERY);
  const wanted = asked.stdout
    .split("\n")
    .flatMap((line) => /^'[^']*' (\S+) \d+/.exec(line)?.slice(1) ?? [])
    .map(fileName)
    .filter(({ name }) => !leftOut.test(name));
  if (!asked.ok || wanted.length === 0) {
    const detail = `apt-get knows no way to have ${names.join(", ")}; run \`apt-get update\` as root: ${lastLine(asked.stderr)}`;
    throw new ForeshiftError("MISSING_TOOL", { value: "the image's packages", detail });
  }
  const stanzas = await exec("apt-cache", ["show", ...wanted.map(({ name, version }) => `${name}=${version}`)], QUERY);
  const known = new Map(stanzas.stdout.split("\n\n").flatMap(parseStanza));
  return wanted
    .map(({ name, version }) => {
      const found = known.get(`${name}=${version}`);
      if (found !== undefined) return found;
      throw new ForeshiftError("MISSING_TOOL", {
        value: name,
        detail: "apt-cache knows no SHA-256 of it: run `apt-get update`",
      });
    })
    .sort((one, other) => (one.name < other.name ? -1 : 1));
}

/** `busybox-static_1%3a1.35.0-4_amd64.deb`. */
function fileName(file: string): { name: string; version: string } {
  const [name = "", version = ""] = file.split("_");
  return { name, version: decodeURIComponent(version) };
}

function parseStanza(text: string): [string, Package][] {
  const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(text)?.[1];
  const [name, version, sha256, size] = [field("Package"), field("Version"), field("SHA256"), field("Size")];
  if (name === undefined || version === undefined || sha256 === undefined) return [];
  return [[`${name}=${version}`, { name, version, sha256, bytes: Number(size) }]];
}

/** Brings those that `folder` lacks. What lies there under its hash was verified. UNREACHABLE when one cannot be had. */
export async function fetchPackages(packages: readonly Package[], folder: string, report: Report): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const there = new Set(await readdir(folder));
  const missing = packages.filter((one) => !there.has(cachedName(one)));
  if (missing.length === 0) return;
  const megabytes = Math.ceil(missing.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6);
  report(`downloading ${missing.length} Debian packages, ${megabytes} MB`);
  const work = await mkdtemp(join(folder, ".partial-"));
  try {
    const specs = missing.map(({ name, version }) => `${name}=${version}`);
    const done = await exec("apt-get", ["download", "-o", "APT::Sandbox::User=root", ...specs], {
      ...QUERY,
      timeoutMs: MACHINE_LIMITS.packageDownloadTimeoutMs,
      cwd: work,
    });
    const files = new Map((await readdir(work)).map((file) => [`${fileName(file).name}=${fileName(file).version}`, file]));
    for (const one of missing) {
      const file = files.get(`${one.name}=${one.version}`);
      if (file === undefined) throw unreachable(one, lastLine(done.stderr));
      if ((await sha256Of(join(work, file))) !== one.sha256) throw unreachable(one, "its SHA-256 is not what the lists state");
      await rename(join(work, file), join(folder, cachedName(one)));
    }
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function unreachable({ name, version }: Package, detail: string): ForeshiftError {
  return new ForeshiftError("UNREACHABLE", { field: "The Debian package", value: `${name} ${version}`, detail });
}

function cachedName({ name, sha256 }: Package): string {
  return `${name}-${sha256.slice(0, 16)}.deb`;
}

/** Lays the packages' files out below `root`, in a tree whose /bin, /sbin and /lib are links into /usr whatever the release. */
export async function unpackPackages(packages: readonly Package[], folder: string, root: string): Promise<void> {
  await mkdir(root, { recursive: true });
  for (const one of packages) {
    await must("dpkg-deb", ["-x", join(folder, cachedName(one)), root]);
  }
  const script = `for part in bin sbin lib lib64; do
      if [ -L $part ] || [ ! -d $part ]; then ln -sfn usr/$part $part; continue; fi
      mkdir -p usr/$part && cp -a $part/. usr/$part/ && rm -rf $part && ln -s usr/$part $part
    done`;
  await must("sh", ["-euc", script], root);
}

/** Runs a program that lies in an unpacked tree, with that tree's own libraries. */
export async function runUnpacked(root: string, program: string, args: readonly string[], alias = program): Promise<void> {
  const libraries = ["usr/lib/x86_64-linux-gnu", "usr/lib"].map((folder) => join(root, folder)).join(":");
  const loader = join(root, "usr/lib64/ld-linux-x86-64.so.2");
  await must(loader, ["--library-path", libraries, "--argv0", alias, join(root, program), ...args]);
}

/** COMMAND_FAILED with the last line of what it complained of. */
export async function must(command: string, args: readonly string[], cwd?: string): Promise<string> {
  const done = await exec(command, args, {
    timeoutMs: MACHINE_LIMITS.packTimeoutMs,
    env: { ...process.env, LC_ALL: "C", TZ: "UTC" },
    ...(cwd === undefined ? {} : { cwd }),
  });
  if (done.ok) return done.stdout;
  throw new ForeshiftError("COMMAND_FAILED", {
    field: [command, ...args.slice(0, 2)].join(" "),
    detail: lastLine(done.stderr),
  });
}

export async function sha256Of(file: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex");
}

export async function bytesOf(file: string): Promise<number> {
  return (await stat(file)).size;
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}
