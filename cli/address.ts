/** `foreshift address move`: an Elastic IP or a secondary private address to another instance, as a balancer's when its host is to go. */
import type { Command } from "commander";
import { z } from "zod";
import { Ec2Config } from "../drivers/hypervisor/ec2/config.ts";
import { readConfig } from "../workers/config.ts";
import { print } from "./output.ts";

/** Of a control worker's configuration the part that says where EC2 is. */
const Where = z.looseObject({ hypervisor: Ec2Config });

export function register(program: Command): void {
  const address = program.command("address").description("move an address from one EC2 instance to another");
  address
    .command("move")
    .description("take it from whoever has it, and return once EC2 shows it on the other instance; twice is as good as once")
    .argument("<address>", "an Elastic IP, or a private address of the instance's subnet")
    .requiredOption("--to <instance>", "the instance's id; its first interface gets the address")
    .requiredOption("-c, --config <file>", "the control worker's configuration, for region and endpoint")
    .option("--json", "print JSON")
    .action(async (moved: string, { to, config }: { to: string; config: string }, command: Command) => {
      const { hypervisor } = await readConfig(config, Where);
      const { moveAddress } = await import("../drivers/hypervisor/ec2/address.ts");
      print(command, await moveAddress(hypervisor, { address: moved, to }), (result) =>
        result.moved ? `${moved} is on ${to}.` : `${moved} was on ${to} already.`,
      );
    });
}
