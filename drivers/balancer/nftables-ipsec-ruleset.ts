/**
 * The balancer's packet path for IPsec as nftables text: ESP by its SPI, bare and inside UDP 4500; IKE by its SPIs, else by its
 * client. Pure, and a table of its own beside WireGuard's (nftables-ruleset.ts).
 *
 * A gateway chooses the SPI that its clients send to, and tells it inside IKE, where nobody can read it. So SPIs are told by the endpoints, from
 * their kernels' events. Until a rekey's SPI is told, its packets go by their client, which leads to the endpoint that just made it.
 */
import { LIMITS } from "../../models/limits.ts";
import { IPSEC_LIMITS } from "../../models/limits-ipsec.ts";
import { baseChainName, byDevice, type Chain, type Ruleset, type Slot, verdicts } from "./nftables-ruleset.ts";

export interface IpsecSteeringInput {
  readonly owner: string;
  /** IPv4. */
  readonly vip: string;
  readonly edgeDevice: string;
  readonly edgeDeviceIndex: number;
  /** Mark of each bucket of the table that new clients are spread by; 0 leads nowhere. */
  readonly buckets: readonly number[];
  readonly slots: readonly Slot[];
  /** Ejected members: they get nothing new, and what they send teaches nothing. */
  readonly fenced: ReadonlySet<number>;
  /** Inbound SPIs by the mark of the member that holds the SA: a move is another mark, in one transaction. */
  readonly spis: ReadonlyMap<number, number>;
  /** Clients (IPv4) whose next IKE SA goes to this mark, whoever was known before. */
  readonly pins: ReadonlyMap<string, number>;
}

export const IPSEC_TABLE = "netdev foreshift_ipsec";
export const IPSEC_DECLARED = ["members", "takers", "fences", "spis", "ike_pins", "buckets"] as const;

const IKE_PORT = 500;
const NATT_PORT = 4_500;
/** First payload word on port 4500: zero marks IKE, anything else is an SPI (RFC 3948). */
const NATT_WORD = "@th,64,32";
/** A keepalive is one byte, which is too short to hold a word. */
const KEEPALIVE_LENGTH = 9;
const WORD = 2 ** 32;
/** An SPI and a block of its numbers: bare, and in UDP. */
const PASSED = {
  bare: `esp spi . esp sequence & ${blockMask()}`,
  natt: `@th,64,32 . @th,96,32 & ${blockMask()}`,
} as const;
const HASH_SEED = "0x2b7e1516";
/** IKE's initiator's SPI: first in its header, on port 4500 after the marker. */
const IKE_SPI = { [IKE_PORT]: "@th,64,64", [NATT_PORT]: "@th,96,64" } as const;

/** Clients' packets are looked up and never learned from; members' IKE messages teach whose an IKE SA and a client are. */
export function ipsecRuleset(input: IpsecSteeringInput): Ruleset {
  const { slots, fenced } = input;
  const timeout = `${IPSEC_LIMITS.ikeTimeoutMs / 1000}s`;
  const learned = `flags dynamic,timeout; size ${IPSEC_LIMITS.spisMax}; timeout ${timeout};`;
  return {
    table: IPSEC_TABLE,
    owner: input.owner,
    counters: [
      "by_spi",
      "by_ike_spi",
      "by_client",
      "by_hash",
      "unknown_spi",
      "dropped",
      "fenced",
      ...slots.map((s) => `member_${s.mark}`),
    ],
    learned: [
      { name: "ike_sas", spec: `typeof @th,64,64 : meta mark; ${learned}` },
      { name: "ike_clients", spec: `type ipv4_addr : mark; ${learned}` },
      {
        name: "passed",
        spec: `typeof esp spi . esp sequence : meta mark; flags dynamic,timeout; size ${IPSEC_LIMITS.passedMax}; timeout ${passedTimeout()};`,
      },
    ],
    declared: [
      { name: "members", type: "mark : verdict", elements: verdicts(slots, "member_") },
      {
        name: "takers",
        type: "mark : verdict",
        elements: verdicts(
          slots.filter(({ mark }) => !fenced.has(mark)),
          "member_",
        ),
      },
      {
        name: "fences",
        type: "mark : verdict",
        elements: new Map(slots.filter(({ mark }) => fenced.has(mark)).map(({ mark }) => [`${mark}`, "goto fenced"])),
      },
      { name: "spis", type: "typeof esp spi : meta mark", elements: numbered(input.spis) },
      { name: "ike_pins", type: "ipv4_addr : mark", elements: numbered(input.pins) },
      { name: "buckets", type: "mark : mark", elements: numbered(input.buckets.entries()) },
    ],
    chains: [
      { name: "fenced", rules: ['counter name "fenced" drop'] },
      ...slots.map(memberChain),
      ...clientChains(input),
      edgeChain(input),
      ...learnChains(input, timeout),
    ],
  };
}

function memberChain({ mark, device, mac, deviceIndex }: Slot): Chain {
  const way = deviceIndex === undefined ? "drop" : `meta mark set 0 ether daddr set ${mac} fwd to "${device}"`;
  return { name: `member_${mark}`, binding: `${deviceIndex}`, rules: [`counter name "member_${mark}" ${way}`] };
}

function edgeChain({ vip, edgeDevice, edgeDeviceIndex }: IpsecSteeringInput): Chain {
  const natt = `ip daddr ${vip} udp dport ${NATT_PORT}`;
  return {
    name: baseChainName("edge", edgeDevice),
    device: edgeDevice,
    binding: `${edgeDeviceIndex}`,
    rules: [
      // A fragment that is not the first names no SA; what it belongs to was larger than the path allows.
      `ip daddr ${vip} ip protocol { esp, udp } ip frag-off & 0x1fff != 0 counter name "dropped" drop`,
      `ip daddr ${vip} ip protocol esp meta mark set esp spi map @spis goto known_spi`,
      `ip daddr ${vip} ip protocol esp goto unknown_spi`,
      `${natt} udp length ${KEEPALIVE_LENGTH} goto client_in`,
      `${natt} ${NATT_WORD} != 0 meta mark set ${NATT_WORD} map @spis goto known_spi`,
      `${natt} ${NATT_WORD} != 0 goto unknown_spi`,
      `${natt} meta mark set ${IKE_SPI[NATT_PORT]} map @ike_sas goto ike_in`,
      `${natt} goto client_in`,
      `ip daddr ${vip} udp dport ${IKE_PORT} meta mark set ${IKE_SPI[IKE_PORT]} map @ike_sas goto ike_in`,
      `ip daddr ${vip} udp dport ${IKE_PORT} goto client_in`,
    ],
  };
}

function clientChains({ buckets }: IpsecSteeringInput): Chain[] {
  const limit = LIMITS.reflex.unknownIndexPps;
  const hash = `meta mark set jhash ip saddr mod ${Math.max(1, buckets.length)} seed ${HASH_SEED}`;
  return [
    {
      name: "known_spi",
      rules: [
        'counter name "by_spi"',
        `ip protocol esp update @passed { ${PASSED.bare} timeout ${passedTimeout()} : 1 }`,
        `ip protocol udp update @passed { ${PASSED.natt} timeout ${passedTimeout()} : 1 }`,
        "meta mark vmap @members",
        "goto unknown_spi",
      ],
    },
    {
      name: "unknown_spi",
      rules: [
        'counter name "unknown_spi"',
        `limit rate over ${limit}/second burst ${limit} packets counter name "dropped" drop`,
        "goto client_in",
      ],
    },
    { name: "ike_in", rules: ['counter name "by_ike_spi"', "meta mark vmap @takers", "goto client_in"] },
    {
      name: "client_in",
      rules: [
        "meta mark set 0",
        "meta mark set ip saddr map @ike_clients",
        "meta mark set ip saddr map @ike_pins",
        'meta mark != 0 counter name "by_client"',
        "meta mark vmap @takers",
        'counter name "by_hash"',
        ...(buckets.length > 0 ? [hash, "meta mark set meta mark map @buckets", "meta mark vmap @takers"] : []),
        'counter name "dropped" drop',
      ],
    },
  ];
}

/** A client that another member is known for is left: the packet path cannot change a value, and the client was pinned. */
function learnChains({ vip, slots }: IpsecSteeringInput, timeout: string): Chain[] {
  return byDevice(slots).map(([device, sharing]) => {
    const rules = sharing.flatMap((slot) => {
      const from = `${sharing.length > 1 ? `ether saddr ${slot.mac} ` : ""}ip saddr ${vip}`;
      const learn = (port: keyof typeof IKE_SPI, marker: string) => {
        const ike = `${from} udp sport ${port} ${marker}meta mark set ${slot.mark}`;
        return [
          `${ike} meta mark vmap @fences`,
          `${ike} update @ike_sas { ${IKE_SPI[port]} timeout ${timeout} : ${slot.mark} }`,
          `${ike} meta mark set ip daddr map @ike_clients meta mark != ${slot.mark} meta mark set 0 accept`,
          `${ike} update @ike_clients { ip daddr timeout ${timeout} : ${slot.mark} } meta mark set 0 accept`,
        ];
      };
      // Of an endpoint that is out, ESP too: one that was frozen and wakes sends what had come for it, by SAs that another goes on with.
      const sent = [`${from} ip protocol esp`, `${from} udp sport ${NATT_PORT} ${NATT_WORD} != 0`].flatMap((esp) => [
        `${esp} meta mark set ${slot.mark} meta mark vmap @fences`,
        `${esp} meta mark set 0 accept`,
      ]);
      return [...sent, ...learn(IKE_PORT, ""), ...learn(NATT_PORT, `${NATT_WORD} 0 `)];
    });
    return { name: baseChainName("learn", device), device, binding: `${sharing[0]?.deviceIndex}`, rules };
  });
}

/**
 * Of the elements of `passed`: a number that none which passed by this SPI exceeds, near `known`, the last that is known of it (extended
 * numbers are told from it). Undefined when none passed, or when so many did that some may be missing.
 */
export function passedAtMost(elements: ReadonlyMap<string, string>, spi: number, known: number): number | undefined {
  if (elements.size >= IPSEC_LIMITS.passedMax * IPSEC_LIMITS.passedFillMax) return undefined;
  let highest: number | undefined;
  for (const key of elements.keys()) {
    const [of, block] = key.split(" . ").map(Number);
    if (of !== spi || block === undefined) continue;
    const ahead = (((block - known) % WORD) + WORD + WORD / 2) % WORD;
    const number = known + ahead - WORD / 2 + IPSEC_LIMITS.passedBlock - 1;
    if (highest === undefined || number > highest) highest = number;
  }
  return highest;
}

function blockMask(): string {
  return `0x${(WORD - IPSEC_LIMITS.passedBlock).toString(16)}`;
}

function passedTimeout(): string {
  return `${IPSEC_LIMITS.passedTimeoutMs}ms`;
}

function numbered(entries: Iterable<readonly [string | number, number]>): Map<string, string> {
  return new Map([...entries].map(([key, mark]) => [`${key}`, `${mark}`]));
}
