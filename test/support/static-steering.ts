/** Rules that send everybody to one endpoint: what the lab's network does when no reflex is there. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { agentClient } from "../../drivers/tunnel/agent-client.ts";
import type { LabDescription } from "../../lab/lab-client.ts";
import type { MemberLink } from "../../models/steering.ts";
import type { LabDaemon } from "./lab-daemon.ts";

/** Makes the endpoint know every client, and sends all of them there, and their answers back through it. */
export async function steerAllTo(lab: LabDaemon, link: MemberLink, description: LabDescription): Promise<void> {
  const agent = agentClient({ socketPath: link.agent });
  await agent.prepare({ operation: `prepare/${link.device}/${Date.now()}`, peers: description.peers });
  await agent.close();
  const { port } = description.vip;
  runIn(lab, "lb", ["nft", "-f", "-"], table("edge", `udp dport ${port} ether daddr set ${link.mac} fwd to "${link.device}"`));
  const back = `ip daddr 10.66.0.0/16 ether daddr set ${link.returnMac} fwd to "${link.returnDevice}"`;
  runIn(lab, "router", ["nft", "-f", "-"], table("server", back));
}

/** Runs a command in one of the lab's hosts; its standard output. */
export function runIn(lab: LabDaemon, host: string, command: readonly string[], input = ""): string {
  const inner = readFileSync(`/proc/${lab.child.pid}/task/${lab.child.pid}/children`, "utf8").trim();
  const user = process.getuid?.() === 0 ? [] : ["--user", "--preserve-credentials"];
  const enter = [...user, "--target", inner, "--mount", "--pid", "--net", "--"];
  const args = [...enter, "nsenter", `--net=/run/netns/${host}`, `--mount=/run/lab/mnt/${host}`, "--", ...command];
  const result = spawnSync("nsenter", args, { input, encoding: "utf8", timeout: 10_000, cwd: "/" });
  assert.equal(result.status, 0, `${command.join(" ")} in ${host}: ${result.stderr}`);
  return result.stdout;
}

function table(device: string, rule: string): string {
  return `table netdev test_steering {
}
delete table netdev test_steering
table netdev test_steering {
  chain ingress {
    type filter hook ingress device "${device}" priority filter; policy accept;
    ${rule}
  }
}
`;
}
