/**
 * The way back into one of two tunnels: an endpoint that answers to two static keys has an interface for each, and sends to a client
 * by the one that the client's last packet came out of. WireGuard vouches for the inner address, so the packet path itself may follow it.
 */
import { LIMITS } from "../../models/limits.ts";
import { runCommand } from "../run-command.ts";

export interface TunnelWay {
  readonly slot: 0 | 1;
  readonly device: string;
}

const TABLE = "inet foreshift_follow";
/** Mark and routing table of what goes back by the interface of slot 0; slot 1 has the numbers after them. */
const MARK = 0x60;
const ROUTES = 60;
const ADDRESSES_MAX = 65_536;
const FAMILIES = [
  { set: "4", type: "ipv4_addr", nfproto: "ipv4", ip: "ip", option: "-4" },
  { set: "6", type: "ipv6_addr", nfproto: "ipv6", ip: "ip6", option: "-6" },
] as const;

const { commandTimeoutMs: timeoutMs } = LIMITS.wireguard;

/** Packets into the tunnels' prefixes go by this interface unless something says otherwise. */
export async function routeInto(device: string, prefixes: readonly string[]): Promise<void> {
  await ipBatch(prefixes.map((prefix) => `route replace ${prefix} dev ${device}`));
}

/** Follows clients from one interface to the other and back. Done again it changes nothing, and forgets nobody. */
export async function followClients(ways: readonly TunnelWay[], prefixes: readonly string[]): Promise<void> {
  const routes = ways.flatMap(({ slot, device }) =>
    prefixes.map((prefix) => `route replace ${prefix} dev ${device} table ${ROUTES + slot}`),
  );
  await ipBatch(routes);
  for (const { slot } of ways) for (const { option } of FAMILIES) await addRule(option, slot);
  await runCommand("nft", ["-f", "-"], { timeoutMs, input: ruleset(ways) });
}

/** What goes to these inner addresses goes by the interface of this slot, until a packet from them comes out of the other one. */
export async function sendBackBy(slot: TunnelWay["slot"], innerAddresses: readonly string[]): Promise<void> {
  const lines = innerAddresses.flatMap((address) => {
    const set = address.includes(":") ? "6" : "4";
    const [here, there] = [`${TABLE} at${slot}_${set} { ${address} }`, `${TABLE} at${1 - slot}_${set} { ${address} }`];
    // Only what is there can be deleted.
    return [`add element ${there}`, `delete element ${there}`, `add element ${here}`];
  });
  if (lines.length > 0) await runCommand("nft", ["-f", "-"], { timeoutMs, input: `${lines.join("\n")}\n` });
}

/** Undoes `followClients`; where nobody is followed it changes nothing. */
export async function stopFollowing(): Promise<void> {
  await runCommand("nft", ["-f", "-"], { timeoutMs, input: `add table ${TABLE}\ndelete table ${TABLE}\n` });
  for (const { option } of FAMILIES)
    for (const slot of [0, 1] as const)
      if (await hasRule(option, slot)) await runCommand("ip", [option, "rule", "del", ...ruleOf(slot)], { timeoutMs });
}

function ruleset(ways: readonly TunnelWay[]): string {
  const lines = [
    `add table ${TABLE}`,
    ...FAMILIES.flatMap(({ set, type }) =>
      [0, 1].map((slot) => `add set ${TABLE} at${slot}_${set} { type ${type}; size ${ADDRESSES_MAX}; flags dynamic; }`),
    ),
    `add chain ${TABLE} follow { type filter hook prerouting priority mangle; policy accept; }`,
    `flush chain ${TABLE} follow`,
    // What the endpoint itself sends, an ICMP error for one, goes the same way.
    `add chain ${TABLE} own { type route hook output priority mangle; policy accept; }`,
    `flush chain ${TABLE} own`,
    ...ways.flatMap(({ slot, device }) =>
      FAMILIES.map(({ ip, nfproto, set }) => {
        const [here, there] = [`@at${slot}_${set}`, `@at${1 - slot}_${set}`];
        const learn = `add ${here} { ${ip} saddr } delete ${there} { ${ip} saddr } return`;
        return `add rule ${TABLE} follow iifname "${device}" meta nfproto ${nfproto} ${learn}`;
      }),
    ),
    // A set that is full ends the rule above.
    ...ways.map(({ device }) => `add rule ${TABLE} follow iifname "${device}" return`),
    ...ways.flatMap(({ slot }) =>
      FAMILIES.flatMap(({ ip, set }) => {
        const back = `${ip} daddr @at${slot}_${set} meta mark set ${MARK + slot} return`;
        return [`add rule ${TABLE} follow ${back}`, `add rule ${TABLE} own ${back}`];
      }),
    ),
  ];
  return `${lines.join("\n")}\n`;
}

async function addRule(option: string, slot: TunnelWay["slot"]): Promise<void> {
  if (!(await hasRule(option, slot))) await runCommand("ip", [option, "rule", "add", ...ruleOf(slot)], { timeoutMs });
}

async function hasRule(option: string, slot: TunnelWay["slot"]): Promise<boolean> {
  const found = await runCommand("ip", [option, "rule", "show", "fwmark", `${MARK + slot}`], { timeoutMs });
  return found.trim() !== "";
}

function ruleOf(slot: TunnelWay["slot"]): readonly string[] {
  return ["fwmark", `${MARK + slot}`, "lookup", `${ROUTES + slot}`];
}

async function ipBatch(lines: readonly string[]): Promise<void> {
  if (lines.length > 0) await runCommand("ip", ["-batch", "-"], { timeoutMs, input: `${lines.join("\n")}\n` });
}
