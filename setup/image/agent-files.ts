/**
 * Foreshift's own part of the image: the endpoint's programs as JavaScript, the packages that they import, and Node. Types are taken
 * out when the image is built, because an emulated processor takes seconds for it at each boot.
 */
import { createHash } from "node:crypto";
import { chmod, cp, mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { isBuiltin, stripTypeScriptTypes } from "node:module";
import { dirname, join, normalize } from "node:path";
import { ForeshiftError } from "../../models/errors.ts";
import { MACHINE_LIMITS } from "../../models/limits-machines.ts";
import { exec } from "../exec.ts";
import { sha256Of } from "./packages.ts";

/** What an endpoint runs, and what a machine here or an instance of EC2 runs around it. */
const ENTRIES = ["workers/agent.ts", "workers/guest.ts", "workers/instance.ts"] as const;

/** Parts of packages that nothing loads: folders at a package's top, and files anywhere. */
const FOLDERS_LEFT_OUT = new Set([".github", "benchmark", "benchmarks", "docs", "example", "examples", "test", "tests"]);
const FILES_LEFT_OUT = /\.(d\.[cm]?ts|map|md|markdown|ts)$/;

const ERROR_CHARS_MAX = 600;
const SPECIFIER = /(\bfrom\s+|\bimport\s*\(\s*|^\s*import\s+)"([^"]+)"/gm;

export interface AgentFiles {
  /** Paths below the checkout, sorted. */
  readonly sources: readonly string[];
  /** Folders below the checkout, sorted. */
  readonly packages: readonly string[];
}

/** What the programs import, and what that imports. */
export async function agentFiles(project: string): Promise<AgentFiles> {
  const sources = new Set<string>(ENTRIES);
  const packages = new Set<string>();
  for (const file of sources) {
    const { code } = strip(await readFile(join(project, file), "utf8"));
    for (const [, , specifier = ""] of code.matchAll(SPECIFIER)) {
      if (specifier.startsWith(".")) sources.add(normalize(join(dirname(file), specifier)));
      else if (!isBuiltin(specifier)) await addPackage(project, packageName(specifier), project, packages);
    }
  }
  return { sources: [...sources].sort(), packages: [...packages].sort() };
}

/** One hash over all that `copyAgent` would write. */
export async function agentDigest(project: string, files: AgentFiles): Promise<string> {
  const hash = createHash("sha256");
  for (const file of files.sources) hash.update(`${file}\0${await sha256Of(join(project, file))}\n`);
  for (const folder of files.packages) hash.update(`${folder}\0${await sha256Of(join(project, folder, "package.json"))}\n`);
  hash.update(await sha256Of(process.execPath));
  return hash.digest("hex");
}

export async function copyAgent(project: string, files: AgentFiles, root: string, folder: string): Promise<void> {
  const target = join(root, folder);
  for (const file of files.sources) {
    const to = join(target, asJavaScript(file));
    await mkdir(dirname(to), { recursive: true });
    await writeFile(to, strip(await readFile(join(project, file), "utf8")).output);
  }
  for (const one of files.packages) await copyPackage(project, one, target);
  await writeFile(join(target, "package.json"), `${JSON.stringify({ name: "foreshift", type: "module" })}\n`);
  await cp(process.execPath, join(root, "usr/bin/node"), { dereference: true });
  await chmod(join(root, "usr/bin/node"), 0o755);
  await tryAgent(join(target, "workers/agent.js"));
}

/** Without a configuration it ends with a coded error, once all that it imports was found. */
async function tryAgent(file: string): Promise<void> {
  const { stderr } = await exec(process.execPath, [file], { timeoutMs: MACHINE_LIMITS.packageQueryTimeoutMs });
  if (stderr.includes("INVALID_FIELD")) return;
  throw new ForeshiftError("COMMAND_FAILED", {
    field: "the agent of the image",
    detail: stderr.trim().slice(0, ERROR_CHARS_MAX),
  });
}

function strip(source: string): { code: string; output: string } {
  const code = stripTypeScriptTypes(source);
  const output = code.replace(SPECIFIER, (whole, before: string, specifier: string) =>
    specifier.startsWith(".") ? `${before}"${asJavaScript(specifier)}"` : whole,
  );
  return { code, output };
}

function asJavaScript(path: string): string {
  return path.replace(/\.ts$/, ".js");
}

function packageName(specifier: string): string {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}

/** As Node finds it: in the nearest `node_modules` above whoever imports it. */
async function addPackage(project: string, name: string, importer: string, packages: Set<string>): Promise<void> {
  for (let at = importer; at.startsWith(project); at = dirname(at)) {
    const folder = join(at, "node_modules", name);
    const manifest = await readFile(join(folder, "package.json"), "utf8").catch(() => undefined);
    if (manifest === undefined) continue;
    const path = folder.slice(project.length + 1);
    if (packages.has(path)) return;
    packages.add(path);
    const { dependencies = {} }: { dependencies?: Record<string, string> } = JSON.parse(manifest);
    for (const dependency of Object.keys(dependencies)) await addPackage(project, dependency, folder, packages);
    return;
  }
  throw new ForeshiftError("MISSING_TOOL", { value: name, detail: "it is not in node_modules: run `npm ci`" });
}

async function copyPackage(project: string, path: string, target: string): Promise<void> {
  const to = join(target, path);
  await mkdir(to, { recursive: true });
  for (const entry of (await readdir(join(project, path))).sort()) {
    if (entry === "node_modules" || FOLDERS_LEFT_OUT.has(entry)) continue;
    const filter = (file: string) => !FILES_LEFT_OUT.test(file);
    await cp(join(project, path, entry), join(to, entry), { recursive: true, filter });
  }
  const { mode } = await stat(join(to, "package.json"));
  if ((mode & 0o444) === 0) await chmod(join(to, "package.json"), 0o644);
}
