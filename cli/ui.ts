/** `foreshift ui`: the way into Temporal's Web UI, payloads opened. */
import type { Command } from "commander";
import { signInAddress } from "../drivers/codec-client.ts";
import { codecAccess } from "../setup/connection.ts";
import { print } from "./output.ts";

export function register(program: Command): void {
  program
    .command("ui")
    .description("print an address that opens Temporal's Web UI, good once")
    .option("--json", "print JSON")
    .action(async (_options: object, command: Command) => {
      const codec = await codecAccess();
      print(command, { address: await signInAddress(codec) }, ({ address }) => address);
    });
}
