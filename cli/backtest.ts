/** `foreshift backtest`: how well the models would have done on recorded data, always without looking ahead. Prints JSON. */
import type { Command } from "commander";

export function register(program: Command): void {
  const backtest = program.command("backtest").description("try the models on recorded data, without looking ahead");
  backtest.addHelpText("after", "\nEvery command prints JSON.");
  registerAnomaly(backtest);
  registerFailure(backtest);
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
    .option("--json", "print JSON (always so)")
    .action(async (options: { train: string; test: string; window: number; seed: number }) => {
      const { backtestFailure } = await import("../backtest/failure.ts");
      console.log(JSON.stringify(await backtestFailure(options), null, 2));
    });
}
