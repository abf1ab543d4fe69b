/**
 * A gateway of `bench ipsec`: strongSwan and SAs in a network namespace of a guest. Its counters are followed by the kernel's events,
 * which come over its inner link and so end with it; it can take another gateway's SAs over.
 */
import type { VirtualMachine } from "../../drivers/qemu/virtual-machine.ts";
import { XfrmEventReader } from "../../drivers/tunnel/xfrm-events.ts";
import { type EventPace, eventPaceMessages } from "../../drivers/tunnel/xfrm-pace.ts";
import { addStateLine, deleteStateLine, parseXfrmStates, type XfrmState } from "../../drivers/tunnel/xfrm-state.ts";
import { PeakRate, type TakeoverPlan, type TakeoverRefusal, takeOver } from "../../models/ipsec/takeover.ts";
import { IPSEC_BENCH, IPSEC_LIMITS } from "../../models/limits-ipsec.ts";
import { type Client, eventPace, type Mark, SERVER_NETWORK, VIP } from "./addresses.ts";
import { callingConnection, type KindName } from "./connections.ts";
import { script, scriptWithInput, waitFor } from "./guests.ts";
import type { Steering } from "./steering.ts";

const CONFIG = "/run/config";
/** Where strongSwan itself puts policies of such selectors, so that its own and ours are the same. */
const POLICY_PRIORITY = 371_327;

/** They leave as one datagram, which is no larger than a page. */
const PACED_AT_ONCE = 50;
const NOTHING_HEARD = {
  kind: "new-handshake",
  reason: "rate-unknown",
  detail: "nothing was heard of the SAs",
} as const satisfies TakeoverRefusal;

/** One SA's newest word: the counter of its direction, and when it was heard. */
interface Followed {
  readonly sequence: number;
  readonly atMs: number;
  readonly peak: PeakRate;
}

/** The pair of SAs that a client uses. */
export interface SaPair {
  readonly outbound: XfrmState;
  readonly inbound: XfrmState;
}

/** What a shadow goes on with, and from where; or why it does not. */
export interface Takeover {
  readonly pair: SaPair;
  readonly outcome: TakeoverPlan | TakeoverRefusal;
}

/** When an outbound number was heard of. */
export interface HeardNumber {
  readonly spi: number;
  readonly sequence: number;
  readonly atMs: number;
}

export class Gateway {
  readonly mark: Mark;
  readonly heard: HeardNumber[] = [];
  /** Words of its SAs' counters. */
  events = 0;
  readonly #guest: VirtualMachine;
  readonly #inside: string;
  readonly #run: string;
  readonly #vici: string;
  readonly #followed = new Map<number, Followed>();
  #added: (() => void) | undefined;

  constructor(guest: VirtualMachine, mark: Mark) {
    this.#guest = guest;
    this.mark = mark;
    this.#run = `/run/gw${mark}`;
    this.#inside = `ip netns exec gw${mark}`;
    this.#vici = `--uri unix://${this.#run}/charon.vici`;
  }

  /** Messages of its kernel, as one datagram brought them. */
  hear(datagram: Buffer): void {
    const atMs = Date.now();
    for (const event of new XfrmEventReader().read(datagram)) {
      if (event.kind === "changed") this.#added?.();
      if (event.kind !== "counters") continue;
      this.events += 1;
      const sequence = Math.max(event.inboundSequence, event.outboundSequence);
      const known = this.#followed.get(event.spi);
      const peak = known?.peak ?? new PeakRate();
      peak.read(sequence, atMs, IPSEC_LIMITS.eventLateMs);
      this.#followed.set(event.spi, { sequence: Math.max(known?.sequence ?? 0, sequence), atMs, peak });
      if (event.outboundSequence > 0) this.heard.push({ spi: event.spi, sequence, atMs });
    }
  }

  /** As after a boot: a strongSwan that knows nobody, and no SA. */
  async startAnew(kind: KindName): Promise<void> {
    await script(
      this.#guest,
      `[ ! -e ${this.#run}/pid ] || kill -9 $(cat ${this.#run}/pid) || true
      ${this.#inside} ip xfrm state flush; ${this.#inside} ip xfrm policy flush
      ${this.#inside} sh -euc '${eventPace({ packets: IPSEC_BENCH.eventPackets, tenths: IPSEC_BENCH.eventTenths })}'
      rm -f ${this.#run}/charon.vici
      STRONGSWAN_CONF=${CONFIG}/gw${this.mark}-daemon.conf ${this.#inside} charon-systemd >${this.#run}/charon.log 2>&1 </dev/null & echo $! > ${this.#run}/pid
      ${waitFor(`[ -S ${this.#run}/charon.vici ]`)}
      swanctl --load-all --file ${CONFIG}/gateway-${kind}.conf ${this.#vici}`,
    );
    this.#followed.clear();
  }

  /** The newest SA of each direction by client, keys included, which stay in this process's memory. A client without both is missing. */
  async newestPairs(clients: readonly Client[]): Promise<ReadonlyMap<Client, SaPair>> {
    // The kernel lists the one that was added last first.
    const states = parseXfrmStates(await script(this.#guest, `${this.#inside} ip -s xfrm state`));
    const pairs = new Map<Client, SaPair>();
    for (const client of clients) {
      const outbound = states.find(({ destination }) => destination === client.outer);
      const inbound = states.find(({ source }) => source === client.outer);
      if (outbound !== undefined && inbound !== undefined) pairs.set(client, { outbound, inbound });
    }
    return pairs;
  }

  async newestPair(client: Client): Promise<SaPair> {
    const pair = (await this.newestPairs([client])).get(client);
    if (pair === undefined) throw new Error(`gateway ${this.mark} has no SAs with ${client.name}`);
    return pair;
  }

  /** Packets that the kernel refused for their numbers, or that failed their check, over all SAs. */
  async refusals(): Promise<{ readonly replayed: number; readonly failed: number }> {
    const printed = await script(this.#guest, `${this.#inside} ip -s xfrm state list nokeys`);
    return refusalsIn(printed);
  }

  /** Policies of SAs that it is the shadow of. The SAs come at the takeover: one that is there with old numbers could be used. */
  preparePolicies(clients: readonly Client[]): void {
    this.#batch(clients.flatMap(policiesOf));
  }

  /**
   * Goes on with pairs of `from`, by what was heard of it until it was fenced, and by what the balancer let through to it. `lagMs`: the
   * longest that a word of it took. Resolves when all their SAs are in the kernel, those aside that it may not go on with.
   */
  async takeOver(
    from: Gateway,
    pairs: readonly SaPair[],
    { fencedAtMs, lagMs }: { readonly fencedAtMs: number; readonly lagMs: number },
    balancer: Steering,
  ): Promise<readonly Takeover[]> {
    const passed = await balancer.passed();
    const takeovers = pairs.map((pair) => {
      const { outbound, inbound } = pair;
      const [sent, received] = [from.#followed.get(outbound.spi), from.#followed.get(inbound.spi)];
      if (sent === undefined || received === undefined) return { pair, outcome: NOTHING_HEARD };
      const ageMs = fencedAtMs - Math.min(sent.atMs, received.atMs) + lagMs;
      const passedAtMost = passed(inbound.spi, received.sequence);
      const outcome = takeOver(
        {
          esn: outbound.esn,
          outbound: { sequence: sent.sequence },
          inbound: { sequence: received.sequence, replayWindow: inbound.replayWindow, passedAtMost },
          lifetime: { bytesMax: outbound.bytesMax, packetsMax: outbound.packetsMax },
          bytes: outbound.bytes,
          packets: outbound.packets,
        },
        { outboundPps: sent.peak.pps, inboundPps: received.peak.pps },
        { ageMs, nowMs: Date.now() },
      );
      return { pair, outcome };
    });
    await this.#add(
      takeovers.flatMap(({ pair: { outbound, inbound }, outcome }) =>
        outcome.kind === "new-handshake"
          ? []
          : [
              { ...outbound, inboundSequence: 0, outboundSequence: outcome.outboundSequence },
              { ...inbound, inboundSequence: outcome.inboundSequence, outboundSequence: 0 },
            ],
      ),
    );
    return takeovers;
  }

  /** Its kernel speaks of these SAs so often. */
  async setPace(pairs: readonly SaPair[], pace: EventPace): Promise<void> {
    const states = pairs.flatMap(({ outbound, inbound }) => [outbound, inbound]);
    const sends = Array.from({ length: Math.ceil(states.length / PACED_AT_ONCE) }, (_, n) => {
      const messages = eventPaceMessages(states.slice(n * PACED_AT_ONCE, (n + 1) * PACED_AT_ONCE), pace);
      return `echo ${messages.toString("base64")} | base64 -d | ${this.#inside} socat -u - SOCKET-SENDTO:16:3:6:x00000000000000000000`;
    });
    await script(this.#guest, sends.join("\n"));
  }

  /** The same SAs with other counters, as if they had been used for long. */
  async setCounters({ outbound, inbound }: SaPair, sent: number, received: number): Promise<void> {
    const lines = [
      deleteStateLine(outbound),
      deleteStateLine(inbound),
      addStateLine({ ...outbound, outboundSequence: sent }),
      addStateLine({ ...inbound, inboundSequence: received }),
    ];
    await scriptWithInput(this.#guest, `${this.#inside} ip -batch -`, `${lines.join("\n")}\n`);
  }

  /**
   * A new IKE SA with each of the clients, beside the one it has: the client keeps both (`unique = never` sends no INITIAL_CONTACT). Behind
   * a translation the client is at the port that its SA shows.
   */
  async authenticate(kind: KindName, calls: ReadonlyMap<Client, SaPair>): Promise<void> {
    const steps = [...calls].map(([client, { outbound }]) => {
      const port = outbound.encapsulation?.destinationPort;
      const file = `${this.#run}/calling.conf`;
      const load =
        port === undefined
          ? ""
          : `echo '${callingConnection(kind, client, port)}' > ${file}; swanctl --load-conns --file ${file} ${this.#vici}`;
      return `${load}
      swanctl --initiate --child ${client.name} --timeout ${IPSEC_BENCH.initiateTimeoutSeconds} ${this.#vici}`;
    });
    await script(this.#guest, steps.join("\n"));
  }

  /** Says goodbye to the client's IKE SA. */
  async terminate(client: Client): Promise<void> {
    await script(this.#guest, `swanctl --terminate --ike ${client.name} ${this.#vici}`);
  }

  forget({ outbound, inbound }: SaPair): void {
    this.#batch([deleteStateLine(outbound), deleteStateLine(inbound)]);
  }

  /** ESP that comes in waits, so that what the client sends with a new SA finds it installed. */
  async hold(): Promise<void> {
    await this.#insideScript(`ip link show ifb0 >/dev/null 2>&1 || ip link add ifb0 type ifb
      ip link set ifb0 up; tc qdisc add dev ifb0 root plug limit ${IPSEC_LIMITS.holdBytesMax}; tc qdisc add dev out0 ingress
      tc filter add dev out0 parent ffff: protocol ip u32 match ip protocol 50 0xff action mirred egress redirect dev ifb0`);
  }

  /** In the order in which it came; nothing is in the queue any more when it goes. */
  async release(): Promise<void> {
    const steps = [
      "tc qdisc change dev ifb0 root plug release_indefinite",
      "tc qdisc del dev out0 ingress",
      "tc qdisc del dev ifb0 root",
    ];
    await this.#insideScript(steps.join(`\nsleep ${IPSEC_BENCH.holdEmptyMs / 1000}\n`));
  }

  async #insideScript(text: string): Promise<void> {
    await script(this.#guest, `${this.#inside} sh -euc '${text}'`);
  }

  /** They are there once the kernel has told of so many. */
  async #add(states: readonly XfrmState[]): Promise<void> {
    if (states.length === 0) return;
    await new Promise<void>((resolve, reject) => {
      let missing = states.length;
      const late = setTimeout(
        () => reject(new Error(`gateway ${this.mark} did not install the SAs`)),
        IPSEC_BENCH.installTimeoutMs,
      );
      this.#added = () => {
        missing -= 1;
        if (missing > 0) return;
        this.#added = undefined;
        clearTimeout(late);
        resolve();
      };
      this.#batch(states.map(addStateLine));
    });
  }

  /** Lines for `ip`, in their order, by the guest's serial line: they may hold keys. */
  #batch(lines: readonly string[]): void {
    this.#guest.line.write(lines.map((line) => `gw${this.mark} ${line}\n`).join(""));
  }
}

function policiesOf({ outer, inner, reqid }: Client): readonly string[] {
  const template = (from: string, to: string) => `tmpl src ${from} dst ${to} proto esp reqid ${reqid} mode tunnel`;
  const policy = (from: string, to: string, direction: string, by: string) =>
    `xfrm policy update src ${from} dst ${to} dir ${direction} priority ${POLICY_PRIORITY} ${by}`;
  return [
    policy(SERVER_NETWORK, `${inner}/32`, "out", template(VIP, outer)),
    policy(`${inner}/32`, SERVER_NETWORK, "fwd", template(outer, VIP)),
    policy(`${inner}/32`, SERVER_NETWORK, "in", template(outer, VIP)),
  ];
}

/** Of `ip -s xfrm state`: packets that its `stats` lines count as before the window or seen already, and as failed. */
export function refusalsIn(printed: string): { readonly replayed: number; readonly failed: number } {
  const lines = [...printed.matchAll(/replay-window (\d+) replay (\d+) failed (\d+)/g)];
  return {
    replayed: lines.reduce((sum, [, before, seen]) => sum + Number(before) + Number(seen), 0),
    failed: lines.reduce((sum, [, , , failed]) => sum + Number(failed), 0),
  };
}
