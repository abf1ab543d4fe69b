/** Takeovers on a real wire (lab/ipsec/trials.ts), played in namespaces of their own that end with them, guests included. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { enclosed } from "../lab/enclosure.ts";
import { ForeshiftError } from "../models/errors.ts";
import { buildImage } from "../setup/image/build.ts";
import { setUp, setUpMachines, setUpTcpdump } from "../setup/set-up.ts";

export interface GuestTrials {
  readonly crashes: number;
  readonly moves: number;
  /** Whether the same client is also left without help. */
  readonly stock: boolean;
  readonly onProgress: (text: string) => void;
}

const TRIALS = fileURLToPath(new URL("../lab/ipsec/trials.ts", import.meta.url));
const count = z.number().int().nonnegative();
const Milliseconds = z.number().nullable();

const Figures = z.object({
  packetsPerSecond: count,
  planned: z.object({ moves: count, packetsLost: count }),
  crash: z.object({
    trials: count,
    recovered: count,
    wentOnWithoutRekey: count,
    newIkeSas: count,
    detectionMs: count,
    recoverMsP50: Milliseconds,
    recoverMsP99: Milliseconds,
    packetsLost: count,
    inboundJumpMax: count,
  }),
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
export async function playInGuests({ onProgress, ...trials }: GuestTrials): Promise<z.infer<typeof Figures>> {
  await setUp({ quiet: true });
  await setUpMachines(onProgress);
  await setUpTcpdump(onProgress);
  const { image } = await buildImage({ onProgress });
  const options = JSON.stringify({ ...trials, image: image.folder });
  const [file, ...args] = enclosed([process.execPath, TRIALS, options], process.getuid?.() ?? 0);
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
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
