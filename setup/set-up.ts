/**
 * Brings everything Foreshift needs onto this machine. Idempotent: what is there is used, a second run only looks.
 */
import { Listr } from "listr2";
import { ForeshiftError } from "../models/errors.ts";
import { download } from "./download.ts";
import { find, findQemu, findTcpdump, type Inventory, type Part } from "./find.ts";
import { withLock } from "./lock.ts";
import { makePaths, paths } from "./paths.ts";
import { OPENBAO, type PinnedBinary, TEMPORAL } from "./pinned.ts";
import { installPackages } from "./system.ts";

/** What set-up has found or brought: nothing is missing in it. */
export type Found = Inventory;

export interface Progress {
  readonly part: string;
  readonly text: string;
}

export interface SetUpOptions {
  /** Shows nothing. */
  readonly quiet?: boolean;
  /** Shows one JSON object a line, on standard error. */
  readonly json?: boolean;
  readonly onProgress?: (progress: Progress) => void;
}

const DOWNLOADS: Readonly<Record<string, PinnedBinary>> = { temporal: TEMPORAL, openbao: OPENBAO };

/** MISSING_TOOL, UNREACHABLE, DISK or COMMAND_FAILED when something cannot be had; running it again goes on from there. */
export async function setUp(options: SetUpOptions = {}): Promise<Found> {
  await makePaths(paths());
  const before = await find();
  if (before.missing.length === 0) return before;
  const waiting = () => options.onProgress?.({ part: "set-up", text: "waiting for another set-up" });
  return withLock(`set-up ${paths().bin}`, () => bring(options), waiting);
}

/** Brings what virtual machines run on, which only who wants them needs. MISSING_TOOL, with the line to type, where it cannot. */
export function setUpMachines(onProgress: (text: string) => void = () => undefined): Promise<Part> {
  return bringTool(findQemu, onProgress);
}

/** Brings what looks at packets on a wire. MISSING_TOOL, with the line to type, where it cannot. */
export function setUpTcpdump(onProgress: (text: string) => void): Promise<Part> {
  return bringTool(findTcpdump, onProgress);
}

async function bringTool(findIt: () => Promise<Part>, onProgress: (text: string) => void): Promise<Part> {
  const before = await findIt();
  if (before.source !== "missing") return before;
  await installPackages([before], onProgress);
  const after = await findIt();
  refuseMissing(after.source === "missing" ? [after] : []);
  return after;
}

async function bring(options: SetUpOptions): Promise<Found> {
  const { missing } = await find();
  const system = missing.filter(({ debianPackage }) => debianPackage !== undefined);
  const steps: Step[] = [];
  if (system.length > 0) {
    const title = `System packages for ${system.map(({ name }) => name).join(", ")}`;
    steps.push({ part: "system", title, run: (report) => installPackages(system, report) });
  }
  for (const part of missing) {
    const pinned = DOWNLOADS[part.name];
    if (pinned === undefined) continue;
    const title = `${part.name} ${pinned.version}, pinned by SHA-256`;
    steps.push({ part: part.name, title, run: (report) => download(paths().bin, pinned, report).then(() => undefined) });
  }
  await runSteps(steps, options);
  const after = await find();
  refuseMissing(after.missing);
  return after;
}

interface Step {
  readonly part: string;
  readonly title: string;
  readonly run: (report: (text: string) => void) => Promise<void>;
}

async function runSteps(steps: readonly Step[], options: SetUpOptions): Promise<void> {
  const silent = options.quiet === true || options.json === true;
  const list = new Listr(
    steps.map((step) => ({
      title: step.title,
      task: (_: unknown, task: { output: string }) =>
        step.run((text) => {
          if (!silent) task.output = text;
          if (options.json === true) process.stderr.write(`${JSON.stringify({ event: "set-up", part: step.part, text })}\n`);
          options.onProgress?.({ part: step.part, text });
        }),
    })),
    { concurrent: false, ...(silent ? { renderer: "silent" as const } : {}) },
  );
  await list.run();
}

function refuseMissing(missing: readonly Part[]): void {
  const [first] = missing;
  if (first !== undefined) throw new ForeshiftError("MISSING_TOOL", { value: first.name, detail: first.where });
}
