/** `foreshift ui`: the way into Temporal's Web UI, payloads opened. */
import type { Command } from "commander";
import { signInAddress } from "../drivers/codec-client.ts";
import { ForeshiftError } from "../models/errors.ts";
import { connection } from "../setup/connection.ts";
import { print } from "./output.ts";

export function register(program: Command): void {
  program
    .command("ui")
    .description("print an address that opens Temporal's Web UI, good once")
    .option("--json", "print JSON")
    .action(async (_options: object, command: Command) => {
      const { codec } = await connection();
      if (codec === undefined) {
        const detail = "set FORESHIFT_CODEC to its address, and FORESHIFT_CODEC_TOKEN_FILE";
        throw new ForeshiftError("UNREACHABLE", { field: "the codec server", value: "no address", detail });
      }
      print(command, { address: await signInAddress(codec) }, ({ address }) => address);
    });
}
