/** `foreshift backtest`: how well the models would have done on recorded data, always without looking ahead. Prints JSON. */
import type { Command } from "commander";

export function register(program: Command): void {
  const backtest = program.command("backtest").description("try the models on recorded data, without looking ahead");
  backtest.addHelpText("after", "\nEvery command prints JSON.");
}
