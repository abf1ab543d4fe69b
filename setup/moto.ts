/**
 * moto's server, which the tests of EC2, load balancers and Route 53 run against: `moto_server` on PATH, else a Python environment of our
 * own with pinned packages. Nothing but tests needs it, so the set-up does not bring it.
 */
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { ForeshiftError } from "../models/errors.ts";
import { exec, isExecutable, which } from "./exec.ts";
import { SETUP_LIMITS } from "./limits.ts";
import { withLock } from "./lock.ts";
import { paths } from "./paths.ts";
import { LOOPBACK, onFreePort } from "./ports.ts";
import { asService, type Service, type ServiceOptions, startChild } from "./service.ts";

const REQUIREMENTS = join(import.meta.dirname, "moto-requirements.txt");
const HASH_DIGITS = 12;

interface Program {
  readonly command: string;
  readonly args: readonly string[];
}

/** How it is started; a sentence where this machine cannot have it. UNREACHABLE or COMMAND_FAILED when bringing it fails. */
export async function bringMoto(): Promise<Program | string> {
  const onPath = await which("moto_server");
  if (onPath !== undefined) return { command: onPath, args: [] };
  const python = await which("python3");
  if (python === undefined) return "there is no moto_server on PATH, and no python3 to install it with";
  const folder = join(paths().bin, `moto-${await digestOf(python)}`);
  const program = { command: join(folder, "bin", "python"), args: ["-m", "moto.server"] };
  return await withLock(`moto ${folder}`, async () => {
    if (await isExecutable(program.command)) return program;
    const asked = await exec(python, ["-c", "import venv, ensurepip"], { timeoutMs: SETUP_LIMITS.probeTimeoutMs });
    if (!asked.ok) return "there is no moto_server on PATH, and no python3-venv to install it with";
    await install(python, folder);
    return program;
  });
}

/** A new server without any state, on a free port. */
export function startMoto(options: ServiceOptions, { command, args }: Program): Promise<Service> {
  return onFreePort(async (port) => {
    const address = `http://${LOOPBACK}:${port}`;
    const child = await startChild(options, {
      name: "moto",
      command,
      args: [...args, "-H", LOOPBACK, "-p", String(port)],
      stopSignal: "SIGTERM",
      orphanSignal: "KILL",
      ports: [port],
      isReady: async () => (await fetch(`${address}/moto-api/`)).ok,
    });
    return asService("moto", address, child);
  });
}

/** Whole under its final name, or not there: a virtual environment may be moved as long as it is asked for modules, not scripts. */
async function install(python: string, folder: string): Promise<void> {
  await mkdir(paths().bin, { recursive: true, mode: 0o700 });
  const work = await mkdtemp(join(paths().bin, ".partial-moto-"));
  const options = ["--require-hashes", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--quiet"];
  const steps = [
    [python, "-m", "venv", work],
    [join(work, "bin", "python"), "-m", "pip", "install", ...options, "--requirement", REQUIREMENTS],
  ];
  try {
    for (const [command = "", ...args] of steps) {
      const done = await exec(command, args, { timeoutMs: SETUP_LIMITS.downloadTimeoutMs });
      const detail = done.stderr.trim().split("\n").at(-1) ?? "";
      if (!done.ok) throw new ForeshiftError("COMMAND_FAILED", { field: "installing moto", detail });
    }
    await rename(work, folder);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Other requirements and another Python are another environment. */
async function digestOf(python: string): Promise<string> {
  const { stdout } = await exec(python, ["--version"], { timeoutMs: SETUP_LIMITS.probeTimeoutMs });
  const hash = createHash("sha256")
    .update(stdout)
    .update(await readFile(REQUIREMENTS));
  return hash.digest("hex").slice(0, HASH_DIGITS);
}
