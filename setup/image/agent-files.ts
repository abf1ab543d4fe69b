/**
 * Foreshift's own part of the image: the endpoint's programs as JavaScript, the packages that they import, and Node. Types are taken
 * out when the image is built, because an emulated processor takes seconds for it at each boot.
 */
import { createHash } from "node:crypto";
import { chmod, cp, mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { isBuiltin, stripTypeScriptTypes } from "node:module";
import { dirname, join, normalize } from "node:path";
import { ForeshiftError } from "../../models/errors.ts";
import { sha256Of } from "./packages.ts";

/** What an endpoint runs. */
const ENTRIES = ["workers/agent.ts"] as const;

/** Parts of packages that nothing loads. */
const LEFT_OUT = /(^|\/)(\.github|benchmarks?|docs?|examples?|tests?|__tests__|src)$|\.(d\.[cm]?ts|map|md|markdown|ts|yml)$/;
/** Packages whose program lies in `src`. */
const KEEPS_SOURCE = /(^|\/)node_modules\/(node-vault|debug|mustache)(\/|$)/;

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
    const from = join(project, path, entry);
    if (entry === "node_modules") continue;
    const keep = (file: string) => {
      const inside = file.slice(from.length - entry.length);
      return !LEFT_OUT.test(KEEPS_SOURCE.test(file) ? inside.replace(/\bsrc$/, "source") : inside);
    };
    await cp(from, join(to, entry), { recursive: true, filter: keep });
  }
  const { mode } = await stat(join(to, "package.json"));
  if ((mode & 0o444) === 0) await chmod(join(to, "package.json"), 0o644);
}
