/**
 * First step of every command, in plain JavaScript for any Node from 20 on: makes `node_modules` match `package-lock.json`,
 * then runs the TypeScript with the Node 24 that lies in there.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, realpathSync } from "node:fs";
import nodeModule from "node:module";
import { createServer } from "node:net";
import { constants } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";

const PROJECT = dirname(dirname(fileURLToPath(import.meta.url)));
const MODULES_BIN = join(PROJECT, "node_modules", ".bin");
const NODE_MAJOR_MIN = 20;
const NODE_MAJOR_WANTED = 24;
const LOCK_POLL_MS = 200;
const CANNOT_RUN = 69;

/** Runs a TypeScript file of this project with Node 24; does not return when another process had to be started for it. */
export async function boot(script, args) {
  if (majorOf(process.versions.node) < NODE_MAJOR_MIN) {
    fail(`Foreshift needs Node ${NODE_MAJOR_MIN} or later to start`, `This is ${process.version}; install a later one.`);
  }
  await installModules();
  keepCompiled();
  process.env.PATH = [MODULES_BIN, process.env.PATH ?? "", "/usr/local/sbin", "/usr/sbin", "/sbin"].join(delimiter);
  const file = join(PROJECT, script);
  if (majorOf(process.versions.node) >= NODE_MAJOR_WANTED) {
    process.argv = [process.execPath, file, ...args];
    await import(pathToFileURL(file).href);
    return;
  }
  handOver(nodeWanted(), [file, ...args]);
}

/** A lab starts dozens of processes of the same modules: compiled once, they begin with half of the CPU time. */
function keepCompiled() {
  process.env.NODE_COMPILE_CACHE ??= join(PROJECT, ".foreshift", "compiled");
  nodeModule.enableCompileCache?.();
}

async function installModules() {
  if (modulesMatch()) return;
  const lock = await holdLock(`npm ci ${realpathSync(PROJECT)}`);
  try {
    if (!modulesMatch()) npmInstall();
  } finally {
    lock.close();
  }
}

/**
 * Whether what npm has recorded as installed is what the lock file asks for. npm writes its record last, so an interrupted
 * installation has none.
 */
function modulesMatch() {
  const wanted = packagesIn(join(PROJECT, "package-lock.json"));
  const installed = packagesIn(join(PROJECT, "node_modules", ".package-lock.json"));
  if (wanted === undefined || installed === undefined) return false;
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === "") return true;
    const there = installed[path];
    return there === undefined ? entry.optional === true || entry.peer === true : there.version === entry.version;
  });
}

function packagesIn(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8")).packages;
  } catch {
    return undefined;
  }
}

function npmInstall() {
  process.stderr.write("Installing the locked npm packages (once) …\n");
  const options = ["--no-audit", "--no-fund", "--no-progress", "--no-update-notifier", "--loglevel=error"];
  const how = { cwd: PROJECT, stdio: ["ignore", 2, 2] };
  if (runNpm(["ci", ...options], how)) return;
  fail("npm could not install the packages", "npm's own message is above; correct that, then run the same command again.");
}

/** npm says through which file it was started; without it the one on PATH is used. */
function runNpm(args, how) {
  const entry = process.env.npm_execpath;
  const own =
    entry !== undefined && /\bnpm-cli\.c?js$|npx-cli\.c?js$/.test(entry) ? entry.replace("npx-cli", "npm-cli") : undefined;
  const done = own === undefined ? spawnSync("npm", args, how) : spawnSync(process.execPath, [own, ...args], how);
  return done.status === 0;
}

/** Node 24 of the platform's npm package; a later one that runs this file serves as well. */
function nodeWanted() {
  const node = join(MODULES_BIN, "node");
  if (existsSync(node)) return node;
  return fail(
    `There is no Node ${NODE_MAJOR_WANTED} package for ${process.platform} on ${process.arch}`,
    `Foreshift runs on Linux (x64, arm64). Elsewhere install Node ${NODE_MAJOR_WANTED} or later yourself and run again.`,
  );
}

/**
 * Ends as the child does, and passes on what is sent to us alone. Ctrl-C at a terminal reaches the child by itself as well: every command
 * takes a second one for the first.
 */
export function handOver(command, args) {
  const child = spawn(command, args, { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.once("error", (error) => fail(`Cannot run ${command}: ${error.message}`, "Remove node_modules and run again."));
  child.once("exit", (code, signal) => {
    process.exit(signal === null ? (code ?? 1) : 128 + constants.signals[signal]);
  });
}

/** An abstract socket is a lock the kernel releases when its holder dies. */
async function holdLock(name) {
  const address = `\0foreshift-${createHash("sha256").update(name).digest("hex")}`;
  for (let announced = false; ; announced = true) {
    const server = createServer();
    const held = await new Promise((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(address, () => resolve(true));
    });
    if (held) return server;
    if (!announced) process.stderr.write("Waiting for another set-up in this folder …\n");
    await delay(LOCK_POLL_MS);
  }
}

function majorOf(version) {
  return Number(version.split(".")[0]);
}

function fail(message, remedy) {
  process.stderr.write(`${message}\n  ${remedy}\n`);
  process.exit(CANNOT_RUN);
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const [script, ...args] = process.argv.slice(2);
  await boot(script, args);
}
