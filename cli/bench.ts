/** `foreshift bench`: measures what Foreshift promises, on a lab of its own, and prints JSON. */
import { type Command, InvalidArgumentError } from "commander";
import { LIMITS } from "../models/limits.ts";

export function register(program: Command): void {
  const bench = program.command("bench").description("measure what Foreshift promises");
  bench
    .command("handover")
    .description("what planned moves and crashes cost the clients, beside stock behaviour")
    .option("--moves <n>", "planned moves of a session, at least", whole, 50)
    .option("--clients <n>", "clients, each in a namespace of its own", whole, 6)
    .option("--sessions <n>", "sessions in all; more than clients means that clients share namespaces", whole)
    .option("--pps <n>", "numbered packets a second, for each session and direction", whole, 100)
    .option("--endpoints <n>", "endpoints; with 1 it holds every session, and a move moves them all", whole, 3)
    .option("--trials <n>", "crashes, freezes and zombies, each", whole, 10)
    .option("--stock-trials <n>", "crashes with stock behaviour", whole, 1)
    .action(
      async (options: {
        moves: number;
        clients: number;
        sessions?: number;
        pps: number;
        endpoints: number;
        trials: number;
        stockTrials: number;
      }) => {
        const { benchHandover } = await import("../bench/handover.ts");
        show(await benchHandover({ ...options, sessions: options.sessions ?? options.clients, onProgress }));
      },
    );
  bench
    .command("chaos")
    .description("kill anything at any point of a move, and count what was done twice or lost")
    .option("--seed <n>", "the schedule of kills follows from it", whole, 1)
    .option("--rounds <n>", "moves, each with kills in it", whole, 5)
    .action(async (options: { seed: number; rounds: number }) => {
      const { benchChaos } = await import("../bench/chaos.ts");
      show(await benchChaos({ ...options, onProgress }));
    });
  bench
    .command("foresight")
    .description("faults that build up, with a swarm that reacts and with one that acts on predictions")
    .option("--trials <n>", "faults under each of the two", whole, 4)
    .option("--seed <n>", "kinds and places of the faults follow from it", whole, 1)
    .option(
      "--build-up <seconds>",
      "from a fault's beginning to the machine's failure",
      buildUp,
      LIMITS.lab.buildUpSecondsDefault,
    )
    .option("--quiet <seconds>", "without a fault, under each of the two", whole, 60)
    .action(async (options: { trials: number; seed: number; buildUp: number; quiet: number }) => {
      const { benchForesight } = await import("../bench/foresight.ts");
      const { trials, seed, buildUp: buildUpSeconds, quiet: quietSeconds } = options;
      show(await benchForesight({ trials, seed, buildUpSeconds, quietSeconds, onProgress }));
    });
}

function show(figures: object): void {
  console.log(JSON.stringify(figures, null, 2));
}

function onProgress(text: string): void {
  console.error(`  ${text}`);
}

function whole(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 0 && value <= LIMITS.bench.countMax) return value;
  throw new InvalidArgumentError(`Expected a whole number from 0 to ${LIMITS.bench.countMax}.`);
}

function buildUp(text: string): number {
  const { buildUpSecondsMin: min } = LIMITS.bench;
  const value = whole(text);
  if (value >= min && value <= LIMITS.lab.faultSecondsMax) return value;
  throw new InvalidArgumentError(`Expected a whole number from ${min} to ${LIMITS.lab.faultSecondsMax}.`);
}
