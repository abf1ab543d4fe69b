/**
 * The balancer's packet path as nftables text. Pure: takes what must hold, gives chains and maps. The differences between what the
 * kernel holds and what must hold are in nftables-diff.ts, the running of `nft` in nftables.ts.
 */
import { LIMITS } from "../../models/limits.ts";
import { portOfSlot } from "../../models/static-identities.ts";

/** Base chains hang on one device; all others are reached by jumps. */
export interface Chain {
  readonly name: string;
  readonly device?: string;
  /** What the rules depend on beside their text: the index behind a device's name. */
  readonly binding?: string;
  readonly rules: readonly string[];
}

/** A map whose elements only the reflex writes, so that they can be compared and only differences are sent. */
export interface DeclaredMap {
  readonly name: string;
  readonly type: string;
  readonly elements: ReadonlyMap<string, string>;
}

/** A map the packet path itself writes. It is made once and never flushed. */
export interface LearnedMap {
  readonly name: string;
  readonly spec: string;
}

export interface Ruleset {
  readonly table: string;
  /** Whose ruleset it is; a table with another owner is not touched. */
  readonly owner: string;
  readonly counters: readonly string[];
  readonly learned: readonly LearnedMap[];
  readonly declared: readonly DeclaredMap[];
  readonly chains: readonly Chain[];
}

/** A member as the packet path sees it. `mark` is its slot: stable for its life, above 0, not given to another within hours. */
export interface Slot {
  readonly mark: number;
  readonly device: string;
  readonly mac: string;
  /** Undefined: the device is not there, so nothing can be forwarded. A changed index is a new device under an old name. */
  readonly deviceIndex: number | undefined;
}

export interface SteeringInput {
  readonly owner: string;
  readonly vip: { readonly v4: string; readonly v6?: string | undefined; readonly port: number };
  readonly edgeDevice: string;
  readonly edgeDeviceIndex: number;
  /** `hash`: by the client's address; `rotate`: one bucket after the other. */
  readonly spread: "hash" | "rotate";
  /** Mark of each bucket; 0 leads nowhere. */
  readonly buckets: readonly number[];
  readonly slots: readonly Slot[];
  /** Marks of ejected members: they get no handshakes, and what they send teaches nothing. */
  readonly fenced: ReadonlySet<number>;
  /** `[address, port, mark]`. */
  readonly pins: readonly (readonly [string, number, number])[];
}

export const STEERING_TABLE = "netdev foreshift";
export const STEERING_DECLARED = ["members", "takers", "fences", "pins4", "pins6", "buckets"] as const;
/** WireGuard's message types with their three zero bytes, as the first payload word. */
const INITIATION = "0x01000000";
const RESPONSE = "0x02000000";
const DATA = "0x04000000";
/** Hashes of IPv6 clients start here, so that none is taken for a slot. */
const CLIENT_HASH_OFFSET = 2 ** 31;
/** A bucket whose member was just ejected is passed over this often, each time with another hash. */
const HASH_SEEDS = ["0x1f0e5417", "0x2c9277b5", "0x3ad8f02b", "0x4e67c6a7"];

/** Table of the balancer's host: what clients send is steered, what endpoints send is learned from. */
export function steeringRuleset(input: SteeringInput): Ruleset {
  const { vip, slots } = input;
  const timeout = `${LIMITS.reflex.sessionTimeoutMs / 1000}s`;
  const learnedSpec = `flags dynamic,timeout; size ${LIMITS.reflex.sessionsMax}; timeout ${timeout};`;
  const families = vip.v6 === undefined ? (["4"] as const) : (["4", "6"] as const);
  return {
    table: STEERING_TABLE,
    owner: input.owner,
    counters: [
      "by_session",
      "by_pin",
      "by_client",
      "by_hash",
      "unknown_index",
      "dropped",
      ...slots.map((slot) => `member_${slot.mark}`),
    ],
    learned: [
      { name: "sessions", spec: `typeof @th,96,32 : meta mark; ${learnedSpec}` },
      { name: "clients4", spec: `type ipv4_addr . inet_service : mark; ${learnedSpec}` },
      // By a hash of address and port: nft 1.0.6 cannot write rules that learn keys longer than 16 bytes.
      { name: "clients6", spec: `type mark : mark; ${learnedSpec}` },
    ],
    declared: [
      { name: "members", type: "mark : verdict", elements: verdicts(slots, "member_") },
      {
        name: "takers",
        type: "mark : verdict",
        elements: verdicts(
          slots.filter((slot) => !input.fenced.has(slot.mark)),
          "member_",
        ),
      },
      {
        name: "fences",
        type: "mark : verdict",
        elements: new Map(slots.filter((s) => input.fenced.has(s.mark)).map((s) => [`${s.mark}`, "drop"])),
      },
      { name: "pins4", type: "ipv4_addr . inet_service : mark", elements: pinElements(input.pins, false) },
      { name: "pins6", type: "ipv6_addr . inet_service : mark", elements: pinElements(input.pins, true) },
      { name: "buckets", type: "mark : mark", elements: bucketElements(input.buckets) },
    ],
    chains: [
      ...slots.map(memberChain),
      ...families.map((family) => handshakeChain(family, input)),
      ...families.flatMap((family) => vipChains(family)),
      edgeChain(input),
      ...learnChains(input, families, timeout),
    ],
  };
}

/** The way to one member: only the destination MAC changes, so the member sees the client's packet as it was sent. */
function memberChain(slot: Slot): Chain {
  const counter = `counter name "member_${slot.mark}"`;
  const rules =
    slot.deviceIndex === undefined
      ? [`${counter} drop`]
      : [`${counter} meta mark set 0 ether daddr set ${slot.mac} fwd to "${slot.device}"`];
  return { name: `member_${slot.mark}`, binding: `${slot.deviceIndex}`, rules };
}

function edgeChain(input: SteeringInput): Chain {
  const { v4, v6, port } = input.vip;
  const ports = portsOf(port);
  const rules = [
    `ip daddr ${v4} udp dport ${ports} goto vip4`,
    `ip daddr ${v4} ip frag-off & 0x1fff != 0 counter name "dropped" drop`,
  ];
  if (v6 !== undefined) {
    rules.push(
      `ip6 daddr ${v6} udp dport ${ports} goto vip6`,
      `ip6 daddr ${v6} exthdr frag exists counter name "dropped" drop`,
    );
  }
  return {
    name: baseChainName("edge", input.edgeDevice),
    device: input.edgeDevice,
    binding: `${input.edgeDeviceIndex}`,
    rules,
  };
}

/** The VIP's port and the one after it: a swarm's static key has one of them, the one that follows it has the other. */
function portsOf(port: number): string {
  return `{ ${portOfSlot(port, 0)}, ${portOfSlot(port, 1)} }`;
}

/**
 * Data, and everything else that names its receiver's session (a response, a cookie), goes where that session was learned.
 * The packet path from clients writes nothing.
 */
function vipChains(family: "4" | "6"): Chain[] {
  return [
    {
      name: `vip${family}`,
      rules: [
        `@th,64,32 ${DATA} goto data${family}`,
        `@th,64,32 ${RESPONSE} meta mark set @th,128,32 map @sessions`,
        "@th,64,32 0x03000000 meta mark set @th,96,32 map @sessions",
        "meta mark vmap @takers",
        `@th,64,32 { ${INITIATION}, ${RESPONSE}, 0x03000000 } goto handshake${family}`,
        'counter name "dropped" drop',
      ],
    },
    {
      name: `data${family}`,
      rules: [
        `meta mark set @th,96,32 map @sessions`,
        'meta mark != 0 counter name "by_session"',
        "meta mark vmap @members",
        'counter name "unknown_index"',
        `limit rate over ${LIMITS.reflex.unknownIndexPps}/second burst ${LIMITS.reflex.unknownIndexPps} packets counter name "dropped" drop`,
        `goto handshake${family}`,
      ],
    },
  ];
}

/** Pin, else the member that last spoke to this client, else the table. */
function handshakeChain(family: "4" | "6", input: SteeringInput): Chain {
  const client = family === "4" ? "ip saddr . udp sport" : "ip6 saddr . udp sport";
  const learned =
    family === "4"
      ? [`meta mark set ${client} map @clients4`]
      : [`meta mark set ${clientHash(client)}`, "meta mark set meta mark map @clients6"];
  // A hash that was not learned stays in the mark; it is above all slots.
  const found = family === "4" ? "meta mark != 0" : `meta mark < ${CLIENT_HASH_OFFSET}`;
  const rules = [
    "meta mark set 0",
    `meta mark set ${client} map @pins${family}`,
    'meta mark != 0 counter name "by_pin"',
    "meta mark vmap @members",
    ...learned,
    `${found} counter name "by_client"`,
    "meta mark vmap @takers",
    'counter name "by_hash"',
  ];
  if (input.buckets.length > 0) {
    for (const seed of HASH_SEEDS) {
      const bucket =
        input.spread === "hash"
          ? `jhash ${client} mod ${input.buckets.length} seed ${seed}`
          : `numgen inc mod ${input.buckets.length}`;
      rules.push(`meta mark set ${bucket}`, "meta mark set meta mark map @buckets", "meta mark vmap @takers");
    }
  }
  rules.push('counter name "dropped" drop');
  return { name: `handshake${family}`, rules };
}

function clientHash(client: string): string {
  return `jhash ${client} mod ${2 ** 31 - 1} seed 0x52a6c1f3 offset ${CLIENT_HASH_OFFSET}`;
}

/**
 * A client that is not known is learned, one that is known as this member's is refreshed. One that another member is known for is left:
 * nftables cannot change an element's value from the packet path. Such a client was pinned, and its pin outlives what was learned.
 */
function learnClient(family: "4" | "6", mark: number, timeout: string): string[] {
  const client = family === "4" ? "ip daddr . udp dport" : "ip6 daddr . udp dport";
  if (family === "4") {
    // On a miss the mark stays this member's.
    return [
      `meta mark set ${client} map @clients4`,
      `meta mark ${mark} update @clients4 { ${client} timeout ${timeout} : ${mark} }`,
    ];
  }
  return [
    `meta mark set ${clientHash(client)}`,
    "meta mark set meta mark map @clients6",
    `meta mark != ${mark} meta mark < ${CLIENT_HASH_OFFSET} meta mark set 0 accept`,
    `meta mark set ${clientHash(client)} update @clients6 { meta mark timeout ${timeout} : ${mark} }`,
  ];
}

/** One chain a device: members may share a device, and are then told apart by their MAC addresses. */
function learnChains(input: SteeringInput, families: readonly ("4" | "6")[], timeout: string): Chain[] {
  const { vip } = input;
  return byDevice(input.slots).map(([device, slots]) => {
    const rules: string[] = [];
    for (const slot of slots) {
      const from = slots.length > 1 ? `ether saddr ${slot.mac} ` : "";
      for (const family of families) {
        const [ip, address] = family === "4" ? ["ip", vip.v4] : ["ip6", vip.v6 ?? ""];
        const handshake = `${from}${ip} saddr ${address} udp sport ${portsOf(vip.port)} @th,64,32 { ${INITIATION}, ${RESPONSE} }`;
        rules.push(
          `${handshake} meta mark set ${slot.mark} meta mark vmap @fences`,
          `${handshake} update @sessions { @th,96,32 timeout ${timeout} : ${slot.mark} }`,
          ...learnClient(family, slot.mark, timeout).map((rule) => `${handshake} ${rule}`),
          `${handshake} meta mark set 0 accept`,
        );
      }
    }
    return { name: baseChainName("learn", device), device, binding: `${slots[0]?.deviceIndex}`, rules };
  });
}

/** A base chain's device cannot be changed everywhere, so another device is another chain. */
export function baseChainName(role: string, device: string): string {
  const plain = /^[A-Za-z0-9_-]+$/.test(device);
  return `${role}_${plain ? device : Buffer.from(device).toString("hex")}`;
}

export function byDevice<S extends { device: string; deviceIndex: number | undefined }>(slots: readonly S[]): [string, S[]][] {
  const devices = new Map<string, S[]>();
  for (const slot of slots) {
    if (slot.deviceIndex === undefined) continue;
    const sharing = devices.get(slot.device);
    if (sharing === undefined) devices.set(slot.device, [slot]);
    else sharing.push(slot);
  }
  return [...devices];
}

export function verdicts(slots: readonly { mark: number }[], prefix: string): Map<string, string> {
  return new Map(slots.map((slot) => [`${slot.mark}`, `goto ${prefix}${slot.mark}`]));
}

function pinElements(pins: SteeringInput["pins"], v6: boolean): Map<string, string> {
  return new Map(
    pins
      .filter(([address]) => address.includes(":") === v6)
      .map(([address, port, mark]) => [`${address} . ${port}`, `${mark}`]),
  );
}

/** One map for one table, so that an unchanged table is recognised without comparing it. */
const elementsOfBuckets = new WeakMap<readonly number[], Map<string, string>>();

function bucketElements(buckets: readonly number[]): Map<string, string> {
  const known = elementsOfBuckets.get(buckets);
  if (known !== undefined) return known;
  const elements = new Map<string, string>();
  elementsOfBuckets.set(buckets, elements);
  buckets.forEach((mark, bucket) => elements.set(`${bucket}`, `${mark}`));
  return elements;
}
