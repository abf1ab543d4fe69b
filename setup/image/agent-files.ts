/**
 * Foreshift's own part of the image: the endpoint's programs, each with all that it imports in a few files of JavaScript, and Node. An
 * emulated processor takes seconds to find, read and compile hundreds of modules at each boot, and pays for what is loaded and never used.
 */
import { createHash } from "node:crypto";
import { chmod, cp, mkdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { build, type Plugin } from "esbuild";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { MACHINE_LIMITS } from "../../models/limits-machines.ts";
import { exec } from "../exec.ts";
import { sha256Of } from "./packages.ts";

/** What an endpoint runs, and what a machine here or an instance of EC2 runs around it. */
const PROGRAMS = ["workers/agent.ts", "workers/guest.ts", "workers/instance.ts"] as const;

const ERROR_CHARS_MAX = 600;

/** Packages of which the programs use a small part and their own entry loads all: what is loaded of them instead. */
const PARTS: Readonly<Record<string, string>> = {
  // Without caches, mocks, proxies, WebSocket and `fetch`.
  undici: `
    const Dispatcher = require("undici/lib/dispatcher/dispatcher.js");
    Object.assign(Dispatcher.prototype, require("undici/lib/api/index.js"));
    exports.Agent = require("undici/lib/dispatcher/agent.js");
    exports.Pool = require("undici/lib/dispatcher/pool.js");`,
  // node-vault's transport where it is given none; ours is drivers/vault/transport.ts.
  axios: "",
};

export interface AgentFile {
  /** Below `workers/` of the image's Foreshift. */
  readonly name: string;
  readonly code: string;
}

/** The programs, sorted by name: the same bytes for the same checkout and packages. COMMAND_FAILED where a part is missing. */
export async function agentFiles(project: string): Promise<readonly AgentFile[]> {
  try {
    const { outputFiles } = await build({
      absWorkingDir: project,
      entryPoints: [...PROGRAMS],
      outdir: "workers",
      bundle: true,
      splitting: true,
      platform: "node",
      target: `node${process.versions.node}`,
      format: "esm",
      minify: true,
      entryNames: "[name]",
      chunkNames: "[name]-[hash]",
      // For packages in CommonJS that ask for Node's own modules.
      banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
      plugins: [partsOf(project)],
      write: false,
      logLevel: "silent",
    });
    const files = outputFiles.map(({ path, text }) => ({ name: basename(path), code: text }));
    return files.sort((one, other) => (one.name < other.name ? -1 : 1));
  } catch (thrown) {
    throw failed(messageOf(thrown), thrown);
  }
}

/** One hash over all that `copyAgent` would write. */
export async function agentDigest(files: readonly AgentFile[]): Promise<string> {
  const hash = createHash("sha256");
  for (const { name, code } of files) hash.update(`${name}\0${code}\0`);
  return hash.update(await sha256Of(process.execPath)).digest("hex");
}

export async function copyAgent(files: readonly AgentFile[], root: string, folder: string): Promise<void> {
  const target = join(root, folder);
  await mkdir(join(target, "workers"), { recursive: true });
  for (const { name, code } of files) await writeFile(join(target, "workers", name), code);
  await writeFile(join(target, "package.json"), `${JSON.stringify({ name: "foreshift", type: "module" })}\n`);
  await cp(process.execPath, join(root, "usr/bin/node"), { dereference: true });
  await chmod(join(root, "usr/bin/node"), 0o755);
  await tryAgent(join(target, "workers/agent.js"));
}

/** Without a configuration it ends with a coded error, once all that it imports was found. */
async function tryAgent(file: string): Promise<void> {
  const { stderr } = await exec(process.execPath, [file], { timeoutMs: MACHINE_LIMITS.packageQueryTimeoutMs });
  if (!stderr.includes("INVALID_FIELD")) throw failed(stderr.trim());
}

function failed(detail: string, cause?: unknown): ForeshiftError {
  const shown = detail.slice(0, ERROR_CHARS_MAX);
  return new ForeshiftError("COMMAND_FAILED", { field: "the agent of the image", detail: shown }, { cause });
}

function partsOf(project: string): Plugin {
  return {
    name: "parts",
    setup(bundle) {
      bundle.onResolve({ filter: /./ }, ({ path }) => (Object.hasOwn(PARTS, path) ? { path, namespace: "part" } : undefined));
      bundle.onLoad({ filter: /./, namespace: "part" }, ({ path }) => ({
        contents: PARTS[path] ?? "",
        loader: "js",
        resolveDir: project,
      }));
    },
  };
}
