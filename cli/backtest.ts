/** `foreshift backtest`: how well the models would have done on recorded data, always without looking ahead. Prints JSON. */
import type { Command } from "commander";

export function register(program: Command): void {
  const backtest = program.command("backtest").description("try the models on recorded data, without looking ahead");
  backtest.addHelpText("after", "\nEvery command prints JSON.");
  registerAnomaly(backtest);
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
