/** The balancer between the client and the gateways, with the rules that Foreshift's own has; and the way back to the client. */
import { NamespaceCommands, NftTable } from "../../drivers/balancer/nftables.ts";
import { IPSEC_DECLARED, IPSEC_TABLE, ipsecRuleset, passedAtMost } from "../../drivers/balancer/nftables-ipsec-ruleset.ts";
import { CLIENT, CLIENT_INNER, CLIENT_LINK, innerAddress, innerLink, MARKS, type Mark, outerLink, VIP } from "./addresses.ts";
import type { SaPair } from "./gateway.ts";

export interface Wanted {
  /** Who gets the client's ESP, and its IKE unless that is pinned elsewhere. */
  readonly to: Mark;
  readonly pair?: SaPair | undefined;
  readonly fenced?: Mark;
  readonly ikeTo?: Mark;
}

export class Steering {
  readonly #commands = new NamespaceCommands(undefined);
  readonly #table = new NftTable(this.#commands, IPSEC_TABLE, IPSEC_DECLARED);
  #devices: ReadonlyMap<string, number> | undefined;

  /** One transaction. */
  async steer({ to, pair, fenced, ikeTo }: Wanted): Promise<void> {
    this.#devices ??= await this.#commands.devices();
    const devices = this.#devices;
    await this.#table.apply(
      ipsecRuleset({
        owner: "bench",
        vip: VIP,
        edgeDevice: CLIENT_LINK.tap,
        edgeDeviceIndex: devices.get(CLIENT_LINK.tap) ?? 0,
        buckets: [to],
        slots: MARKS.map((mark) => {
          const { tap, mac } = outerLink(mark);
          return { mark, device: tap, mac, deviceIndex: devices.get(tap) };
        }),
        fenced: new Set(fenced === undefined ? [] : [fenced]),
        spis: new Map(pair === undefined ? [] : [[pair.inbound.spi, to]]),
        pins: new Map([[CLIENT, ikeTo ?? to]]),
      }),
    );
  }

  /** No higher number came by this SPI; undefined where the balancer does not know. `known`: the last that is known of it. */
  async passedAtMost(spi: number, known: number): Promise<number | undefined> {
    return passedAtMost(await this.#table.elements("passed"), spi, known);
  }

  /** What is for the client goes through this gateway. */
  async wayBack(through: Mark): Promise<void> {
    await this.#commands.output("ip", ["route", "replace", CLIENT_INNER, "via", innerAddress(through)]);
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
