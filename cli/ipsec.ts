/** `foreshift ipsec`: this host's IPsec sessions as strongSwan and the kernel have them. Keys are read past and never printed. */
import type { Command } from "commander";
import { runCommand } from "../drivers/run-command.ts";
import { ViciClient } from "../drivers/tunnel/vici.ts";
import type { ViciSection, ViciValue } from "../drivers/tunnel/vici-message.ts";
import { parseXfrmStates } from "../drivers/tunnel/xfrm-state.ts";
import { IPSEC_LIMITS } from "../models/limits-ipsec.ts";
import { print } from "./output.ts";

interface Sa {
  readonly spi: string;
  readonly source: string;
  readonly destination: string;
  readonly esn: boolean;
  readonly outboundSequence: number;
  readonly inboundSequence: number;
  readonly replayWindow: number;
  readonly packets: number;
}

interface IkeSa {
  readonly connection: string;
  readonly state: string;
  readonly remote: string;
  readonly children: number;
}

export function register(program: Command): void {
  const ipsec = program.command("ipsec").description("this host's IPsec sessions, without their keys");
  ipsec
    .command("list")
    .description("IKE SAs of strongSwan, and the kernel's SAs with their counters")
    .option("--socket <path>", "where strongSwan's VICI listens", "/var/run/charon.vici")
    .option("--json", "print JSON")
    .action(async ({ socket }: { socket: string }, command: Command) => {
      const [ike, sas] = [await ikeSas(socket), await kernelSas()];
      print(command, { ike, sas }, words);
    });
}

async function ikeSas(path: string): Promise<readonly IkeSa[]> {
  const vici = await ViciClient.open(path);
  try {
    const events = await vici.stream("list-sas", "list-sa");
    return events.flatMap((event) =>
      [...event].flatMap(([connection, value]) => (value instanceof Map ? [ikeSa(connection, value)] : [])),
    );
  } finally {
    vici.close();
  }
}

function ikeSa(connection: string, section: ViciSection): IkeSa {
  const children = section.get("child-sas");
  const remote = `${text(section.get("remote-host"))}:${text(section.get("remote-port"))}`;
  return { connection, state: text(section.get("state")), remote, children: children instanceof Map ? children.size : 0 };
}

function text(value: ViciValue | undefined): string {
  return typeof value === "string" ? value : "";
}

async function kernelSas(): Promise<readonly Sa[]> {
  const printed = await runCommand("ip", ["-s", "xfrm", "state", "list", "nokeys"], { timeoutMs: IPSEC_LIMITS.viciTimeoutMs });
  return parseXfrmStates(printed).map((state) => ({
    spi: `0x${state.spi.toString(16).padStart(8, "0")}`,
    source: state.source,
    destination: state.destination,
    esn: state.esn,
    outboundSequence: state.outboundSequence,
    inboundSequence: state.inboundSequence,
    replayWindow: state.replayWindow,
    packets: state.packets,
  }));
}

function words({ ike, sas }: { ike: readonly IkeSa[]; sas: readonly Sa[] }): string {
  const lines = ike.map((sa) => `${sa.connection}  ${sa.state}  ${sa.remote}  ${sa.children} children`);
  const counted = sas.map(
    (sa) =>
      `${sa.spi}  ${sa.source} -> ${sa.destination}  sent ${sa.outboundSequence}  received ${sa.inboundSequence}  window ${sa.replayWindow}`,
  );
  return [...lines, ...counted].join("\n") || "no IPsec sessions";
}
