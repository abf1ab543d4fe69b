/** `foreshift address move`: an Elastic IP or a secondary private address to another instance, as a balancer's when its host is to go. */
import type { Command } from "commander";
import { z } from "zod";
import { Ec2Config } from "../drivers/hypervisor/ec2/config.ts";
import { openStore } from "../drivers/store/store.ts";
import { readConfig } from "../workers/config.ts";
import { me } from "./control.ts";
import { print } from "./output.ts";

/** Of a control worker's configuration the parts that say where EC2 is, and where the audit trail. */
const Where = z.looseObject({ hypervisor: Ec2Config, databaseUrl: z.string().min(1) });

interface Options {
  readonly to: string;
  readonly config: string;
  readonly swarm: string;
  readonly reason: string;
  readonly operation?: string;
}

export function register(program: Command): void {
  const address = program.command("address").description("move an address from one EC2 instance to another");
  address
    .command("move")
    .description("take it from whoever has it, and return once EC2 shows it on the other instance; twice is as good as once")
    .argument("<address>", "an Elastic IP, or a private address of the instance's subnet")
    .requiredOption("--to <instance>", "the instance's id; its first interface gets the address")
    .requiredOption("-c, --config <file>", "the control worker's configuration, for region, endpoint and audit trail")
    .option("-s, --swarm <name>", "whose balancer it is, for the audit trail; * is several", "*")
    .option("-r, --reason <text>", "why, for the audit trail", "asked for by hand")
    .option("--operation <key>", "names this move: said again it leaves no second row in the audit trail")
    .option("--json", "print JSON")
    .action(move);
}

async function move(address: string, { to, config, swarm, reason, operation }: Options, command: Command): Promise<void> {
  const { hypervisor, databaseUrl } = await readConfig(config, Where);
  const { moveAddressOnRecord } = await import("../activities/address.ts");
  const store = openStore({ databaseUrl, connectionsMax: 1 });
  try {
    const key = operation ?? `address/${address}/${to}/${new Date().toISOString()}`;
    const asked = { address, to, operation: key, swarm, by: me(), reason };
    print(command, await moveAddressOnRecord(store, hypervisor, asked), ({ moved }) =>
      moved ? `${address} is on ${to}.` : `${address} was on ${to} already.`,
    );
  } finally {
    await store.close();
  }
}
