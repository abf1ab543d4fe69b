/** Takeovers on a real wire (lab/ipsec/trials.ts), played in namespaces of their own that end with them, guests included. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { enclosed } from "../lab/enclosure.ts";
import type { GuestPart } from "../lab/ipsec/parts.ts";
import { ForeshiftError } from "../models/errors.ts";
import { buildImage } from "../setup/image/build.ts";
import { setUp, setUpMachines, setUpTcpdump } from "../setup/set-up.ts";
import { interruptible } from "./interruptible.ts";

export interface GuestTrials {
  /** Of each part that can be played more than once. */
  readonly trials: number;
  readonly parts: readonly GuestPart[];
  readonly onProgress: (text: string) => void;
}

const TRIALS = fileURLToPath(new URL("../lab/ipsec/trials.ts", import.meta.url));
const count = z.number().int().nonnegative();
const Milliseconds = z.number().nullable();

const Crashes = z.object({
  trials: count,
  recovered: count,
  wentOnWithoutRekey: count,
  newIkeSas: count,
  detectionMs: count,
  recoverMsP50: Milliseconds,
  recoverMsP99: Milliseconds,
  packetsLost: count,
  inboundJumpMax: count,
});

const Variant = Crashes.extend({
  variant: z.string(),
  packets: count,
  packetsInUdp: count,
  packetsBeyondWord: count,
  replayed: count,
  replayAccepted: count,
  replayable: count,
});

const Spread = z.object({
  killed: z.string(),
  sessions: count,
  tookOver: count,
  recovered: count,
  sameSpis: count,
  onGateways: z.record(z.string(), count),
  recoverMsMax: Milliseconds,
  packetsLost: count,
  packetsLostOfOthers: count,
  packets: count,
  reused: count,
  notGrowing: count,
  replayed: count,
  replayAccepted: count,
  replayable: count,
});

const LoadStep = z.object({
  pace: z.string(),
  sessions: count,
  offeredPps: count,
  carriedPps: count,
  eventsPps: count,
  wordMsP50: Milliseconds,
  wordMsP99: Milliseconds,
  lagMsP50: Milliseconds,
  lagMsP99: Milliseconds,
  packets: count,
});

const Figures = z.object({
  packetsPerSecond: count,
  planned: z.object({ moves: count, packetsLost: count }),
  crash: Crashes.extend({ variants: z.array(Variant) }),
  spread: z.array(Spread),
  load: z.array(LoadStep),
  stock: z.record(z.string(), z.object({ recoverMs: Milliseconds, watchedMs: count })),
  counters: z.object({
    reused: count,
    notGrowing: count,
    packets: count,
    replayed: count,
    replayAccepted: count,
    replayable: count,
    refusedByShadow: count,
    refusedByClient: z.object({ replayed: count, failed: count }),
    heard: count,
    lagMsP50: Milliseconds,
    lagMsP99: Milliseconds,
  }),
});

/** MISSING_TOOL, with what to install, where guests cannot run; COMMAND_FAILED when the trials came to no end. */
export async function playInGuests(trials: GuestTrials): Promise<z.infer<typeof Figures>> {
  let child: ChildProcess | undefined;
  const close = async () => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    // What it was started in ends with it: guests, namespaces and their files, which lie in memory there.
    child.kill("SIGKILL");
    await once(child, "exit");
  };
  return await interruptible(() => play(trials, (started) => (child = started)), close);
}

async function play({ onProgress, ...trials }: GuestTrials, onStarted: (child: ChildProcess) => void) {
  await setUp({ quiet: true });
  await setUpMachines(onProgress);
  await setUpTcpdump(onProgress);
  const { image } = await buildImage({ onProgress });
  const options = JSON.stringify({ ...trials, image: image.folder });
  const [file, ...args] = enclosed([process.execPath, TRIALS, options], process.getuid?.() ?? 0);
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
  onStarted(child);
  let output = "";
  let last = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    last = text.trim();
    onProgress(last);
  });
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  const printed = output.trim().split("\n").at(-1) ?? "";
  if (printed.startsWith("{")) return Figures.parse(JSON.parse(printed));
  const detail = `exit status ${status}: ${last}`;
  throw new ForeshiftError("COMMAND_FAILED", { field: "trials of IPsec in guests", detail });
}
