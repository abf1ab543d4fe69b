/** The balancer between the client and the gateways, with the rules that Foreshift's own has; and the way back to the client. */
import { NamespaceCommands, NftTable } from "../../drivers/balancer/nftables.ts";
import { IPSEC_DECLARED, IPSEC_TABLE, ipsecRuleset, passedAtMost } from "../../drivers/balancer/nftables-ipsec-ruleset.ts";
import { CLIENT_LINK, type Client, innerAddress, innerLink, MARKS, type Mark, outerLink, VIP } from "./addresses.ts";
import type { SaPair } from "./gateway.ts";

export interface Wanted {
  /** Who gets the client's ESP, and its IKE unless that goes elsewhere. */
  readonly to: Mark;
  readonly pair?: SaPair | undefined;
  readonly ikeTo?: Mark;
}

export class Steering {
  readonly #commands = new NamespaceCommands(undefined);
  readonly #table = new NftTable(this.#commands, IPSEC_TABLE, IPSEC_DECLARED);
  #devices: ReadonlyMap<string, number> | undefined;

  /** One transaction. */
  async steer(wanted: ReadonlyMap<Client, Wanted>, fenced?: Mark): Promise<void> {
    this.#devices ??= await this.#commands.devices();
    const devices = this.#devices;
    await this.#table.apply(
      ipsecRuleset({
        owner: "bench",
        vip: VIP,
        edgeDevice: CLIENT_LINK.tap,
        edgeDeviceIndex: devices.get(CLIENT_LINK.tap) ?? 0,
        buckets: MARKS.filter((mark) => mark !== fenced),
        slots: MARKS.map((mark) => {
          const { tap, mac } = outerLink(mark);
          return { mark, device: tap, mac, deviceIndex: devices.get(tap) };
        }),
        fenced: new Set(fenced === undefined ? [] : [fenced]),
        spis: new Map([...wanted.values()].flatMap(({ to, pair }) => (pair === undefined ? [] : [[pair.inbound.spi, to]]))),
        pins: new Map([...wanted].map(([{ outer }, { to, ikeTo }]) => [outer, ikeTo ?? to])),
      }),
    );
  }

  /** Of an SPI and the last number that is known of it: no higher one came; undefined where the balancer does not know. */
  async passed(): Promise<(spi: number, known: number) => number | undefined> {
    const elements = await this.#table.elements("passed");
    return (spi, known) => passedAtMost(elements, spi, known);
  }

  /** What is for the clients goes through this gateway. */
  async wayBack(clients: readonly Client[], through: Mark): Promise<void> {
    await this.shell(clients.map(({ inner }) => `ip route replace ${inner} via ${innerAddress(through)}`).join("\n"));
  }

  /** Not a packet of it passes any more, in either direction. */
  async cut(mark: Mark): Promise<void> {
    await Promise.all(
      [outerLink(mark), innerLink(mark)].map(({ tap }) => this.#commands.output("ip", ["link", "set", tap, "down"])),
    );
  }

  async shell(text: string): Promise<void> {
    await this.#commands.output("sh", ["-euc", text]);
  }
}
