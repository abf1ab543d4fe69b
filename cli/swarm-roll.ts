/** `foreshift swarm roll`: bring another image to every machine of a swarm, and hold, resume or abort that. */
import { setTimeout as delay } from "node:timers/promises";
import type { Command } from "commander";
import type { Temporal } from "../drivers/temporal-client.ts";
import { ForeshiftError } from "../models/errors.ts";
import { ImageName } from "../models/image.ts";
import { LIMITS } from "../models/limits.ts";
import { parseInput } from "../models/parse.ts";
import type { RollStatus } from "../models/roll.ts";
import type { RollPolicy } from "../models/swarm-spec.ts";
import { me, withTemporal } from "./control.ts";
import { print, wantsJson } from "./output.ts";

interface Options {
  readonly image?: string;
  readonly batch?: number;
  readonly bake?: number;
  readonly rollback: boolean;
  readonly pause?: boolean;
  readonly resume?: boolean;
  readonly abort?: boolean;
  readonly keep?: boolean;
  readonly wait?: boolean;
}

const FAILED_EXIT_CODE = 1;
const ACTIONS = ["image", "pause", "resume", "abort"] as const;

const MORE = `
One endpoint first, then as many at once as the budget allows (\`--batch\`: at most so many): a machine of the new image is there and probed
before sessions move to it, and only then the old one ends. After each batch what was replaced is watched (\`--bake\`, rollout.bakeMs of the
swarm file). If endpoints go bad with the new image more often than without, or two replacements fail one after the other, everything goes
back to the former image by itself. What is of the image already is left alone; ghosts are replaced as well. \`--abort\` goes back, with
\`--keep\` it ends where it is. Until the next rollout, or a swarm file that states another image, machines are launched from this one.`;

export function registerRoll(swarm: Command): void {
  swarm
    .command("roll")
    .description("bring another image to every machine, in batches, and back by itself where it makes things worse")
    .argument("<name>")
    .option("--image <digest>", "what `foreshift image build` printed, or an AMI")
    .option("--batch <endpoints>", "replace at most so many at once", parseBatch)
    .option("--bake <seconds>", "watch what was replaced for so long before the next batch", parseSeconds)
    .option("--no-rollback", "where it makes things worse, wait for a person instead of going back")
    .option("--pause", "begin nothing more; what is under way ends")
    .option("--resume", "go on, and judge anew")
    .option("--abort", "go back to the former image")
    .option("--keep", "with --abort: end it where it is")
    .option("-w, --wait", "show its progress until it has ended; exit code 1 unless every machine is of the image")
    .option("--json", "print JSON")
    .addHelpText("after", MORE)
    .action(roll);
}

async function roll(swarm: string, options: Options, command: Command): Promise<void> {
  const chosen = ACTIONS.filter((action) => options[action] !== undefined);
  const [action] = chosen;
  if (action === undefined || chosen.length > 1) {
    const value = chosen.length === 0 ? "nothing" : chosen.map((one) => `--${one}`).join(" and ");
    throw new ForeshiftError("INVALID_FIELD", {
      field: "roll",
      value,
      detail: "give one of --image, --pause, --resume, --abort",
    });
  }
  if (options.keep === true && action !== "abort")
    throw new ForeshiftError("INVALID_FIELD", { field: "--keep", value: `--${action}`, detail: "it goes with --abort alone" });
  await withTemporal(async (temporal) => {
    const status = await ask(temporal, swarm, action, options);
    if (options.wait !== true) return print(command, status, rollAsText);
    const tell = (line: string) => {
      if (!wantsJson(command)) console.error(line);
    };
    const ended = await followRoll(temporal, swarm, tell);
    print(command, ended, rollAsText);
    if (ended.phase !== "rolled") process.exitCode = FAILED_EXIT_CODE;
  });
}

async function ask(temporal: Temporal, swarm: string, action: (typeof ACTIONS)[number], options: Options): Promise<RollStatus> {
  const asked = { swarm, by: me() };
  switch (action) {
    case "image": {
      const image = parseInput(ImageName, options.image, "--image");
      return (await temporal.rollSwarm({ ...asked, image, policy: policyOf(options) })).status;
    }
    case "pause":
      return await temporal.pauseRoll(asked);
    case "resume":
      return await temporal.resumeRoll(asked);
    case "abort":
      return await temporal.abortRoll({ ...asked, keep: options.keep === true });
  }
}

/** What is not asked for is as the swarm file says. */
function policyOf({ bake, batch, rollback }: Options): Partial<RollPolicy> {
  return {
    ...(batch === undefined ? {} : { batchEndpoints: batch }),
    ...(bake === undefined ? {} : { bakeMs: bake * 1000 }),
    ...(rollback ? {} : { rollback }),
  };
}

async function followRoll(temporal: Temporal, swarm: string, tell: (line: string) => void): Promise<RollStatus> {
  let told = "";
  for (;;) {
    const { roll: status, runs } = await temporal.status(swarm);
    if (status !== undefined && status.text !== told) tell(status.text);
    told = status?.text ?? told;
    if (runs.every(({ kind }) => kind !== "roll")) {
      if (status !== undefined) return status;
      throw new ForeshiftError("NO_ROLLOUT", { value: swarm, detail: "" });
    }
    await delay(LIMITS.control.runBeginPollMs);
  }
}

export function rollAsText({ by, image, phase, text }: RollStatus): string {
  return `Rollout of ${image}, asked for by ${by}: ${phase}. ${text}`;
}

function parseBatch(text: string): number {
  const count = Number(text);
  if (Number.isSafeInteger(count) && count > 0) return count;
  throw new ForeshiftError("INVALID_FIELD", { field: "--batch", value: text, detail: "expected a whole number above 0" });
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (text.trim() !== "" && Number.isSafeInteger(seconds) && seconds >= 0) return seconds;
  throw new ForeshiftError("INVALID_FIELD", { field: "--bake", value: text, detail: "expected whole seconds, 0 or more" });
}
