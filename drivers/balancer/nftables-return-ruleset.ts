/**
 * The way back as nftables text: the router sends a packet for an inner address to the member that last sent one from it. Pure.
 */
import { LIMITS } from "../../models/limits.ts";
import { baseChainName, byDevice, type Ruleset, type Slot, verdicts } from "./nftables-ruleset.ts";

/** Another name than the balancer's table, because both may be on one host. */
export const RETURN_TABLE = "netdev foreshift_return";
export const RETURN_DECLARED = ["ways", "fences", "probes4", "probes6"] as const;

export interface ReturnSlot extends Slot {
  /** Inner address of the member's probe: always returned to it, also while it is fenced. */
  readonly probeInnerAddress: string;
}

export interface ReturnInput {
  readonly owner: string;
  readonly serverDevice: string;
  readonly serverDeviceIndex: number;
  readonly slots: readonly ReturnSlot[];
  /** Marks whose packets are dropped: a frozen machine that wakes up must not pull routes back. */
  readonly fenced: ReadonlySet<number>;
}

/**
 * Table of the router's host. `routes4` and `routes6` are written by the packet path when an inner address is first seen (WireGuard's
 * allowed IPs vouch for it), and by the reflex when a session has moved: the packet path cannot change an element's value.
 */
export function returnRuleset(input: ReturnInput): Ruleset {
  const { slots } = input;
  const routes = `flags dynamic; size ${LIMITS.reflex.returnRoutesMax};`;
  const probes = (v6: boolean) =>
    new Map(
      slots.filter((s) => s.probeInnerAddress.includes(":") === v6).map((s) => [s.probeInnerAddress, `goto way_${s.mark}`]),
    );
  return {
    table: RETURN_TABLE,
    owner: input.owner,
    counters: ["fenced", ...slots.flatMap(({ mark }) => [`way_${mark}`, `from_${mark}`])],
    learned: [
      { name: "routes4", spec: `type ipv4_addr : mark; ${routes}` },
      { name: "routes6", spec: `type ipv6_addr : mark; ${routes}` },
    ],
    declared: [
      { name: "ways", type: "mark : verdict", elements: verdicts(slots, "way_") },
      {
        name: "fences",
        type: "mark : verdict",
        elements: new Map(slots.filter((s) => input.fenced.has(s.mark)).map((s) => [`${s.mark}`, "drop"])),
      },
      { name: "probes4", type: "ipv4_addr : verdict", elements: probes(false) },
      { name: "probes6", type: "ipv6_addr : verdict", elements: probes(true) },
    ],
    chains: [
      ...slots.map((slot) => ({ name: `way_${slot.mark}`, binding: `${slot.deviceIndex}`, rules: [wayRule(slot)] })),
      {
        name: baseChainName("server", input.serverDevice),
        device: input.serverDevice,
        binding: `${input.serverDeviceIndex}`,
        rules: [
          "ip daddr vmap @probes4",
          "ip6 daddr vmap @probes6",
          "meta mark set ip daddr map @routes4",
          "meta mark set ip6 daddr map @routes6",
          "meta mark vmap @ways",
          "meta mark set 0",
        ],
      },
      ...byDevice(slots).map(([device, sharing]) => ({
        name: baseChainName("from", device),
        device,
        binding: `${sharing[0]?.deviceIndex}`,
        rules: sharing.flatMap((slot) => fromRules(slot, sharing.length > 1)),
      })),
    ],
  };
}

function wayRule(slot: ReturnSlot): string {
  const counter = `counter name "way_${slot.mark}"`;
  if (slot.deviceIndex === undefined) return `${counter} drop`;
  return `${counter} meta mark set 0 ether daddr set ${slot.mac} fwd to "${slot.device}"`;
}

function fromRules(slot: ReturnSlot, shared: boolean): string[] {
  const from = shared ? `ether saddr ${slot.mac} ` : "";
  const probeFamily = slot.probeInnerAddress.includes(":") ? "ip6" : "ip";
  return [
    `${from}${probeFamily} saddr ${slot.probeInnerAddress} accept`,
    `${from}ip6 saddr fe80::/10 accept`,
    // Decrypted packets of clients: what comes out of the member at all. Of a dead tunnel the machine itself complains by ICMP.
    `${from}meta protocol { ip, ip6 } meta l4proto != { icmp, ipv6-icmp } counter name "from_${slot.mark}"`,
    `${from}meta protocol { ip, ip6 } meta mark set ${slot.mark} meta mark vmap @fences`,
    `${from}meta mark set 0`,
    `${from}meta protocol ip add @routes4 { ip saddr : ${slot.mark} } accept`,
    `${from}meta protocol ip6 add @routes6 { ip6 saddr : ${slot.mark} } accept`,
  ];
}
