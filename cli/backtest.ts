/** `foreshift backtest`: how well the models would have done on recorded data, always without looking ahead. Prints JSON. */
import type { Command } from "commander";
import { ForeshiftError } from "../models/errors.ts";

export function register(program: Command): void {
  const backtest = program.command("backtest").description("try the models on recorded data, without looking ahead");
  backtest.addHelpText("after", "\nEvery command prints JSON.");
  registerAnomaly(backtest);
  registerFailure(backtest);
  registerLoad(backtest);
  registerForecast(backtest);
  registerFleet(backtest);
}

function registerAnomaly(backtest: Command): void {
  backtest
    .command("anomaly")
    .description("find the anomalies in labelled series; the Numenta benchmark's scores, precision, recall, delay, speed")
    .requiredOption("--data <directory>", "*/NAME.csv with labels/combined_windows.json, or *.csv.gz with value,label")
    .option("--json", "print JSON (always so)")
    .action(async (options: { data: string }) => {
      const { backtestAnomaly } = await import("../backtest/anomaly.ts");
      console.log(JSON.stringify(await backtestAnomaly(options.data), null, 2));
    });
}

function registerFailure(backtest: Command): void {
  backtest
    .command("failure")
    .description("train the failure engine on one table of units and score another: precision, calibration, lead time")
    .requiredOption("--train <file>", "unit,time,ttf,<numeric columns>; ttf is empty where the unit does not fail")
    .requiredOption("--test <file>", "the same columns, other units")
    .requiredOption("--window <length>", "failure within this time counts, in the unit of `time`", Number)
    .option("--seed <number>", "of the training's draws", Number, 1)
    .option("--model-out <file>", "write the trained model, for `foreshift models import`")
    .option("--json", "print JSON (always so)")
    .action(async (options: { train: string; test: string; window: number; seed: number; modelOut?: string }) => {
      const { backtestFailure } = await import("../backtest/failure.ts");
      console.log(JSON.stringify(await backtestFailure(options), null, 2));
    });
}

function registerLoad(backtest: Command): void {
  backtest
    .command("load")
    .description(
      "choose capacity ahead of demand; the share of intervals that were short, beside simpler ways at the same mean slack",
    )
    .requiredOption("--data <file>", "timestamp and one column a series, empty where missing; CSV, gzipped or not")
    .option("--step <seconds>", "time between rows", wholeNumber("step", 1, 86_400), 300)
    .option("--lead <steps>", "steps from the newest known value to the interval decided on", wholeNumber("lead", 1, 2_016), 2)
    .option("--slack <share>", "mean capacity over mean demand, less 1", positive("slack"), 0.23)
    .option("--json", "print JSON (always so)")
    .action(async (options: { data: string; step: number; lead: number; slack: number }) => {
      const { backtestLoad } = await import("../backtest/load.ts");
      console.log(JSON.stringify(await backtestLoad({ ...options, stepS: options.step }), null, 2));
    });
}

function registerForecast(backtest: Command): void {
  backtest
    .command("forecast")
    .description("forecast seasonal series and score them as the M4 competition did, beside the seasonal naive method")
    .requiredOption("--train <file>", "a row a series: id, values; CSV, gzipped or not")
    .requiredOption("--test <file>", "the same series, what came after")
    .option("--period <steps>", "steps of a season", wholeNumber("period", 2, 1_000), 24)
    .option("--horizon <steps>", "steps ahead", wholeNumber("horizon", 1, 1_000), 48)
    .option("--json", "print JSON (always so)")
    .action(async (options: { train: string; test: string; period: number; horizon: number }) => {
      const { backtestForecast } = await import("../backtest/forecast.ts");
      console.log(JSON.stringify(await backtestForecast(options), null, 2));
    });
}

function registerFleet(backtest: Command): void {
  backtest
    .command("fleet")
    .description("play a made-up fleet under the models: drains of sound machines, and how early failing ones are left")
    .option(
      "--file <swarm>",
      "swarm file whose policy is tried (YAML or JSON), its predictions acting; else the defaults with 10 endpoints",
    )
    .option("--hours <number>", "endpoint-hours without a fault", wholeNumber("hours", 0, 100_000), 50)
    .option("--trials <number>", "faults that build up", wholeNumber("trials", 0, 10_000), 20)
    .option("--seed <number>", "of everything that happens", wholeNumber("seed", 0, 1_000_000), 1)
    .option("--json", "print JSON (always so)")
    .action(async ({ file, hours, trials, seed }: { file?: string; hours: number; trials: number; seed: number }) => {
      const { backtestFleet, DEFAULT_FLEET } = await import("../backtest/fleet-report.ts");
      const { readSwarmFile } = await import("./swarm.ts");
      const read = file === undefined ? DEFAULT_FLEET : await readSwarmFile(file);
      const spec = { ...read, foresight: { ...read.foresight, mode: "act" as const } };
      console.log(JSON.stringify(backtestFleet({ spec, endpointHours: hours, trials, seed }), null, 2));
    });
}

function wholeNumber(field: string, least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= least && value <= most) return value;
    throw new ForeshiftError("INVALID_FIELD", {
      field,
      value: text,
      detail: `expected a whole number from ${least} to ${most}`,
    });
  };
}

function positive(field: string): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (Number.isFinite(value) && value > 0) return value;
    throw new ForeshiftError("INVALID_FIELD", { field, value: text, detail: "expected a number above 0" });
  };
}
