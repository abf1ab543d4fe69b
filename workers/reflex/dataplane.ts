/** The packet path as the reflex sees it: the balancer's table on this host, the return table on the router. */
import { isIPv4, isIPv6 } from "node:net";
import { NamespaceCommands, NftTable } from "../../drivers/balancer/nftables.ts";
import {
  IPSEC_DECLARED,
  IPSEC_TABLE,
  type IpsecSteeringInput,
  ipsecRuleset,
} from "../../drivers/balancer/nftables-ipsec-ruleset.ts";
import { RETURN_DECLARED, RETURN_TABLE, returnRuleset } from "../../drivers/balancer/nftables-return-ruleset.ts";
import { STEERING_DECLARED, STEERING_TABLE, steeringRuleset } from "../../drivers/balancer/nftables-ruleset.ts";
import { ForeshiftError } from "../../models/errors.ts";
import type { BucketTable } from "../../models/hash-table.ts";
import type { MemberLink, SteeringState } from "../../models/steering.ts";
import type { ReflexConfig } from "./config.ts";
import type { PacketCounts } from "./workload.ts";

/** Everything the packet path depends on, at one moment. */
export interface View {
  readonly swarm: string;
  readonly vip: SteeringState["vip"];
  readonly spread: "hash" | "rotate";
  readonly buckets: BucketTable;
  readonly members: readonly { readonly mark: number; readonly link: MemberLink }[];
  readonly fenced: ReadonlySet<number>;
  /** Client's address and port, mark. */
  readonly pins: readonly (readonly [string, number, number])[];
  readonly ipsec: Pick<IpsecSteeringInput, "spis" | "pins">;
}

type Devices = ReadonlyMap<string, number>;

export class Dataplane {
  readonly #config: ReflexConfig;
  readonly #here = new NamespaceCommands(undefined);
  readonly #router: NamespaceCommands;
  readonly #steering: NftTable;
  readonly #return: NftTable;
  /** Undefined where no member is an IPsec gateway. */
  readonly #ipsec: NftTable | undefined;
  #devices: { readonly here: Devices; readonly router: Devices } = { here: new Map(), router: new Map() };

  constructor(config: ReflexConfig) {
    this.#config = config;
    const netns = config.routerNetns;
    this.#router = new NamespaceCommands(netns === undefined || netns.startsWith("/") ? netns : `/run/netns/${netns}`);
    this.#steering = new NftTable(this.#here, STEERING_TABLE, STEERING_DECLARED);
    this.#ipsec = config.ipsec ? new NftTable(this.#here, IPSEC_TABLE, IPSEC_DECLARED) : undefined;
    this.#return = new NftTable(this.#router, RETURN_TABLE, RETURN_DECLARED);
  }

  /** Looks which network devices there are; true when that changed, and with it what the kernel may have kept of the rules. */
  async refreshDevices(): Promise<boolean> {
    const [here, router] = await Promise.all([this.#here.devices(), this.#router.devices()]);
    const changed = !same(here, this.#devices.here) || !same(router, this.#devices.router);
    this.#devices = { here, router };
    if (changed) this.distrust();
    return changed;
  }

  /** What the kernel holds is read before the next change. */
  distrust(): void {
    this.#steering.distrust();
    this.#return.distrust();
    this.#ipsec?.distrust();
  }

  /** NOT_READY when the device that clients' packets come from is not there. */
  async steer(view: View): Promise<boolean> {
    const { here } = this.#devices;
    const { buckets, fenced, swarm: owner } = view;
    const { edgeDevice } = this.#config;
    const edgeDeviceIndex = indexOf(here, edgeDevice);
    const slots = view.members.map(({ mark, link: { device, mac } }) => ({ mark, device, mac, deviceIndex: here.get(device) }));
    const common = { owner, edgeDevice, edgeDeviceIndex, buckets, slots, fenced };
    const steered = this.#steering.apply(steeringRuleset({ ...common, vip: view.vip, spread: view.spread, pins: view.pins }));
    const ipsec = this.#ipsec?.apply(ipsecRuleset({ ...common, vip: view.vip.v4, ...view.ipsec }));
    const changed = await Promise.all([steered, ipsec]);
    return changed.includes(true);
  }

  /** Which blocks of which SPI's numbers were let through in the last seconds. */
  async passed(): Promise<ReadonlyMap<string, string>> {
    return (await this.#ipsec?.elements("passed")) ?? new Map<string, string>();
  }

  /** Ways back to the members, and fences round those that are ejected. */
  async giveBack(view: View): Promise<boolean> {
    const { router } = this.#devices;
    return await this.#return.apply(
      returnRuleset({
        owner: view.swarm,
        serverDevice: this.#config.serverDevice,
        serverDeviceIndex: indexOf(router, this.#config.serverDevice),
        slots: view.members.map(({ mark, link }) => ({
          mark,
          device: link.returnDevice,
          mac: link.returnMac,
          deviceIndex: router.get(link.returnDevice),
          probeInnerAddress: link.probeInnerAddress,
        })),
        fenced: view.fenced,
      }),
    );
  }

  /** Mark of each inner address; with `onlyMissing`, addresses that have a way back already keep it. */
  async setRoutes(routes: ReadonlyMap<string, number>, onlyMissing = false): Promise<void> {
    const family = (v6: boolean) => new Map([...routes].filter(([address]) => address.includes(":") === v6));
    await this.#return.setLearned("routes4", family(false), onlyMissing);
    await this.#return.setLearned("routes6", family(true), onlyMissing);
  }

  /** What was learned of former members leads nowhere; without it, it is learned anew. */
  async forget(marks: ReadonlySet<number>): Promise<void> {
    const steering = this.#steering.forgetLearned(["sessions", "clients4", "clients6"], marks);
    await Promise.all([steering, this.#return.forgetLearned(["routes4", "routes6"], marks)]);
  }

  /** VIP_IN_USE when another swarm's table, another table or a device of this host has the address. */
  async checkVip(swarm: string, vip: SteeringState["vip"]): Promise<void> {
    const owner = await this.#steering.owner();
    if (owner !== undefined && owner !== swarm) throw inUse("vip.v4", vip.v4, `this balancer steers swarm ${owner}`);
    const [tables, addresses] = await Promise.all([this.#steering.otherTables(), this.#here.addresses()]);
    for (const [field, address] of [
      ["vip.v4", vip.v4],
      ["vip.v6", vip.v6],
    ] as const) {
      if (address === undefined) continue;
      for (const [table, text] of tables) {
        if (table !== RETURN_TABLE && table !== IPSEC_TABLE && mentions(text, address))
          throw inUse(field, address, `nftables' table ${table} handles it`);
      }
      const holder = addresses.find(
        (held) => held.address === address && held.device !== "lo" && held.device !== this.#config.edgeDevice,
      );
      if (holder !== undefined) throw inUse(field, address, `the device ${holder.device} of this host has it`);
    }
  }

  counters(): Promise<ReadonlyMap<string, number>> {
    return this.#steering.counters();
  }

  /** Packets that the router has sent to each member so far, by its mark. */
  async returned(): Promise<ReadonlyMap<number, number>> {
    return byMark(await this.#return.counters(), "way_");
  }

  /** Packets from clients so far, by the member's mark: that were sent to it, and that came out of its tunnels. */
  async throughput(): Promise<PacketCounts> {
    const [steered, back] = await Promise.all([this.#steering.counters(), this.#return.counters()]);
    return { given: byMark(steered, "member_"), passed: byMark(back, "from_") };
  }
}

/** `address:port` or `[address]:port` as nftables writes it; undefined when it is neither. */
export function clientKey(socketAddress: string): readonly [string, number] | undefined {
  const match = /^(?:\[(.+)\]|([^:]+)):(\d+)$/.exec(socketAddress);
  const port = Number(match?.[3]);
  const address = canonicalAddress(match?.[1] ?? match?.[2] ?? "");
  return address === undefined || !(port >= 1 && port <= 65_535) ? undefined : [address, port];
}

/** The one spelling of an address that nftables and WireGuard print; undefined when it is no address. */
export function canonicalAddress(address: string): string | undefined {
  if (isIPv4(address)) return address;
  if (!isIPv6(address) || address.includes("%")) return undefined;
  return new URL(`http://[${address}]`).hostname.slice(1, -1);
}

function byMark(counters: ReadonlyMap<string, number>, prefix: string): ReadonlyMap<number, number> {
  const own = [...counters].filter(([name]) => name.startsWith(prefix));
  return new Map(own.map(([name, packets]) => [Number(name.slice(prefix.length)), packets]));
}

function indexOf(devices: Devices, name: string): number {
  const index = devices.get(name);
  if (index === undefined)
    throw new ForeshiftError("NOT_READY", { value: `network device ${name}`, detail: "there is no such device" });
  return index;
}

function same(a: Devices, b: Devices): boolean {
  return a.size === b.size && [...a].every(([name, index]) => b.get(name) === index);
}

function mentions(text: string, address: string): boolean {
  return text.split(/[\s,{}]+/).includes(address);
}

function inUse(field: string, value: string, detail: string): ForeshiftError {
  return new ForeshiftError("VIP_IN_USE", { field, value, detail });
}
