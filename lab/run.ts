/**
 * The lab as a person runs it: in the foreground until Ctrl-C, or in the background until it is taken down.
 */
import { spawn } from "node:child_process";
import { openSync } from "node:fs";
import { join } from "node:path";
import { pino } from "pino";
import { signInAddress } from "../drivers/codec-client.ts";
import { NO_RETRY, UnixHttpClient } from "../drivers/http-unix.ts";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import { type Patience, type Processors, patienceWith } from "../models/patience.ts";
import { type Connection, localSockets } from "../setup/connection.ts";
import { makePaths, paths } from "../setup/paths.ts";
import { setUp } from "../setup/set-up.ts";
import { serve } from "../workers/http-server.ts";
import { until } from "./await.ts";
import { imageFor, type LabHypervisor, processorsFor } from "./machine-image.ts";
import { narrate } from "./narrator.ts";
import { bringUpSwarm, type OpenLab, openLab } from "./open-lab.ts";
import { LAB_SWARM } from "./spec.ts";
import { type StoryResult, tellStory } from "./story.ts";
import { storyTable } from "./story-table.ts";
import type { ProcessStatus } from "./supervised.ts";
import { type RunningLab, startLab } from "./supervisor.ts";
import { usualLoad } from "./usual-load.ts";

export interface LabUpOptions {
  /** As many as its machines carry well unless stated. */
  readonly clients?: number;
  readonly sessions?: number;
  readonly endpoints: number;
  readonly ghosts: number;
  /** As many as its machines carry well unless stated. */
  readonly pps?: number;
  readonly hypervisor: LabHypervisor;
  readonly foreground?: boolean;
  readonly story?: boolean;
  readonly once?: boolean;
  readonly json: boolean;
}

/** With everything said that was left open. */
interface SizedOptions extends LabUpOptions {
  readonly clients: number;
  readonly sessions: number;
  readonly pps: number;
}

export interface LabStatus {
  readonly phase: "starting" | "ready" | "stopping";
  readonly pid: number;
  readonly temporalUi: string | undefined;
  readonly processes: readonly ProcessStatus[];
  /** For a person. */
  readonly lines: readonly string[];
}

const EXIT_CODE_BROKEN_PROMISE = 1;

/** The exit code. */
export async function labUp(asked: LabUpOptions): Promise<number> {
  await refuseSecond();
  await setUp({ json: asked.json, quiet: false });
  // Built ahead of all else, because it may take minutes.
  const image = await imageFor(asked.hypervisor, sayer(asked));
  const processors = await processorsFor(image);
  const options = sized(asked, processors);
  return options.foreground === true || options.story === true || options.once === true
    ? await inForeground(options, image)
    : await inBackground(options, patienceWith(processors));
}

function sized(asked: LabUpOptions, processors: Processors): SizedOptions {
  const usual = usualLoad(processors);
  const { clients = usual.clients, pps = usual.packetsPerSecond, sessions = clients } = asked;
  return { ...asked, clients, sessions, pps };
}

export async function labDown(): Promise<{ was: "running" | "not running" }> {
  const client = new UnixHttpClient({ socketPath: localSockets(paths().run).supervisor, name: "lab" });
  try {
    await client.post("/v1/stop", { timeoutMs: LIMITS.http.requestTimeoutMs, retry: NO_RETRY, body: {} });
    await until(async () => ((await isRunning()) ? undefined : true), {
      what: "the end of the lab",
      timeoutMs: LIMITS.lab.processReadyTimeoutMs,
    });
    return { was: "running" };
  } catch (thrown) {
    if (thrown instanceof ForeshiftError && thrown.code === "UNREACHABLE") return { was: "not running" };
    throw thrown;
  } finally {
    await client.close();
  }
}

/** UNREACHABLE when no lab runs. */
export async function labStatus(): Promise<LabStatus> {
  const client = new UnixHttpClient({ socketPath: localSockets(paths().run).supervisor, name: "lab" });
  try {
    return await client.get<LabStatus>("/v1/status", { timeoutMs: LIMITS.http.requestTimeoutMs, retry: NO_RETRY });
  } finally {
    await client.close();
  }
}

async function inForeground(options: SizedOptions, image: string | undefined): Promise<number> {
  const ending = new AbortController();
  const end = () => ending.abort();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, end);
  const say = sayer(options);
  let phase: LabStatus["phase"] = "starting";
  let lab: RunningLab | undefined;
  await makePaths(paths());
  const api = await serve({
    socketPath: localSockets(paths().run).supervisor,
    log: pino({ level: "silent" }),
    routes: (app) => {
      app.get("/v1/status", () => status(phase, lab));
      app.post("/v1/stop", () => {
        setImmediate(end);
        return {};
      });
    },
  });
  let open: OpenLab | undefined;
  try {
    lab = await startLab({
      ...options,
      image,
      packetsPerSecond: options.pps,
      paths: paths(),
      onProgress: say,
    });
    open = await openLab(lab.connection, lab.processors);
    const bringingUp = bringUpSwarm(open, lab.spec, options.sessions, say);
    if (!(await finished(bringingUp, ending.signal))) return 0;
    phase = "ready";
    say(`the swarm serves; every step to read, by an address that is good once: ${await webUi(lab.connection)}`);
    const told = options.story === true || options.once === true ? await story(options, lab, open, ending.signal) : undefined;
    if (options.once === true) return told?.held === true ? 0 : EXIT_CODE_BROKEN_PROMISE;
    if (!ending.signal.aborted) {
      say(
        "it stays up; break something with `npx foreshift lab fault KIND ENDPOINT`, end it with Ctrl-C or `npx foreshift lab down`",
      );
      await new Promise<void>((resolve) => ending.signal.addEventListener("abort", () => resolve(), { once: true }));
    }
    return 0;
  } finally {
    phase = "stopping";
    say("ending");
    await open?.close();
    await lab?.stop();
    await api.close();
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.off(signal, end);
  }
}

async function story(
  options: SizedOptions,
  lab: RunningLab,
  open: OpenLab,
  signal: AbortSignal,
): Promise<StoryResult | undefined> {
  const print = (line: string) => (options.json ? console.error(line) : console.log(line));
  const narrator = await narrate({ balancer: open.balancer, store: open.store, swarm: LAB_SWARM, print });
  try {
    const telling = tellStory({ around: open, spec: lab.spec, narrator, packetsPerSecond: options.pps });
    if (!(await finished(telling, signal))) return undefined;
    const result = await telling;
    await narrator.stop();
    if (options.json) console.log(JSON.stringify(result, null, 2));
    else for (const line of ["", ...storyTable(result)]) print(line);
    return result;
  } finally {
    await narrator.stop();
  }
}

/** Whether the work was done before the person asked for the end. */
async function finished(work: Promise<unknown>, signal: AbortSignal): Promise<boolean> {
  const aborted = new Promise<false>((resolve) => {
    if (signal.aborted) resolve(false);
    signal.addEventListener("abort", () => resolve(false), { once: true });
  });
  work.catch(() => undefined);
  return await Promise.race([work.then(() => true), aborted]);
}

async function inBackground(options: SizedOptions, patience: Patience): Promise<number> {
  await makePaths(paths());
  const logFile = join(paths().log, "lab.log");
  const log = openSync(logFile, "a", 0o600);
  const { clients, endpoints, ghosts, pps, hypervisor, sessions } = options;
  const sizes = Object.entries({ clients, endpoints, ghosts, pps, sessions, hypervisor }).flatMap(([name, value]) => [
    `--${name}`,
    String(value),
  ]);
  const main = join(paths().project, "cli", "main.ts");
  const child = spawn(process.execPath, [main, "lab", "up", "--foreground", ...sizes], {
    detached: true,
    stdio: ["ignore", log, log],
  });
  let ended = false;
  child.once("exit", () => {
    ended = true;
  });
  const ready = await until(
    async () => {
      if (ended) return { failed: true } as const;
      const found = await labStatus();
      return found.phase === "ready" ? found : undefined;
    },
    { what: "the lab", timeoutMs: patience.swarmReadyTimeoutMs },
  );
  if ("failed" in ready)
    throw new ForeshiftError("NOT_READY", { value: "the lab", detail: `it ended; the reason is in ${logFile}` });
  child.unref();
  console.log(options.json ? JSON.stringify(ready, null, 2) : ready.lines.join("\n"));
  return 0;
}

function sayer({ json }: LabUpOptions): (text: string) => void {
  return (text) => console.error(json ? JSON.stringify({ progress: text }) : `  ${text}`);
}

async function refuseSecond(): Promise<void> {
  if (await isRunning()) {
    throw new ForeshiftError("LAB_RUNS", { value: paths().run });
  }
}

async function isRunning(): Promise<boolean> {
  return await labStatus().then(
    () => true,
    () => false,
  );
}

/** A way into the Web UI for whoever reads this; where there is none, where Temporal is. */
async function webUi({ codec, temporalAddress }: Connection): Promise<string> {
  return codec === undefined ? temporalAddress : await signInAddress(codec);
}

function status(phase: LabStatus["phase"], lab: RunningLab | undefined): LabStatus {
  const processes = phase === "ready" && lab !== undefined ? lab.processes() : [];
  const temporalUi = phase === "ready" ? lab?.connection.codec?.address : undefined;
  const lines = [
    `The lab is ${phase}.`,
    ...(temporalUi === undefined ? [] : [`Temporal Web UI: ${temporalUi} (\`npx foreshift ui\` lets you in)`]),
    ...processes.map(
      ({ name, pid, starts, ready }) =>
        `${name.padEnd(12)} ${ready ? "runs" : "down"}  pid ${pid ?? "external"}  started ${starts} times`,
    ),
  ];
  return { phase, pid: process.pid, temporalUi, processes, lines };
}
