/**
 * A gateway of `bench ipsec`: strongSwan and SAs in a network namespace of a guest. Its counters are followed by the kernel's events,
 * which come over its inner link and so end with it; it can take another gateway's SAs over.
 */
import type { VirtualMachine } from "../../drivers/qemu/virtual-machine.ts";
import { XfrmEventReader } from "../../drivers/tunnel/xfrm-events.ts";
import { addStateLine, deleteStateLine, parseXfrmStates, type XfrmState } from "../../drivers/tunnel/xfrm-state.ts";
import { PeakRate, type TakeoverPlan, type TakeoverRefusal, takeOver } from "../../models/ipsec/takeover.ts";
import { IPSEC_BENCH } from "../../models/limits-ipsec.ts";
import { CLIENT, CLIENT_INNER, type Mark, REQID, SERVER_NETWORK, VIP } from "./addresses.ts";
import { script, waitFor } from "./guests.ts";
import type { Steering } from "./steering.ts";

const CONFIG = "/run/config";
/** Where strongSwan itself puts policies of such selectors, so that its own and ours are the same. */
const POLICY_PRIORITY = 371_327;

/** One SA's newest word: the counter of its direction, and when it was heard. */
interface Followed {
  readonly sequence: number;
  readonly atMs: number;
  readonly peak: PeakRate;
}

/** The pair of SAs that the client uses. */
export interface SaPair {
  readonly outbound: XfrmState;
  readonly inbound: XfrmState;
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
      const sequence = Math.max(event.inboundSequence, event.outboundSequence);
      const known = this.#followed.get(event.spi);
      const peak = known?.peak ?? new PeakRate();
      peak.read(sequence, atMs);
      this.#followed.set(event.spi, { sequence: Math.max(known?.sequence ?? 0, sequence), atMs, peak });
      if (event.outboundSequence > 0) this.heard.push({ spi: event.spi, sequence, atMs });
    }
  }

  /** As after a boot: a strongSwan that knows nobody, and no SA. */
  async startAnew(): Promise<void> {
    await script(
      this.#guest,
      `[ ! -e ${this.#run}/pid ] || kill -9 $(cat ${this.#run}/pid) || true
      ${this.#inside} ip xfrm state flush; ${this.#inside} ip xfrm policy flush
      rm -f ${this.#run}/charon.vici
      STRONGSWAN_CONF=${CONFIG}/gw${this.mark}-daemon.conf ${this.#inside} charon-systemd >${this.#run}/charon.log 2>&1 </dev/null & echo $! > ${this.#run}/pid
      ${waitFor(`[ -S ${this.#run}/charon.vici ]`)}
      swanctl --load-all --file ${CONFIG}/gateway.conf ${this.#vici}`,
    );
    this.#followed.clear();
  }

  /** The newest SA of each direction, keys included, which stay in this process's memory. Undefined while there are none. */
  async newestPair(): Promise<SaPair | undefined> {
    // The kernel lists the one that was added last first.
    const states = parseXfrmStates(await script(this.#guest, `${this.#inside} ip -s xfrm state`));
    const outbound = states.find((state) => state.source === VIP);
    const inbound = states.find((state) => state.destination === VIP);
    return outbound === undefined || inbound === undefined ? undefined : { outbound, inbound };
  }

  /** Packets that the kernel refused for their numbers, or that failed their check, over all SAs. */
  async refusals(): Promise<{ readonly replayed: number; readonly failed: number }> {
    const printed = await script(this.#guest, `${this.#inside} ip -s xfrm state list nokeys`);
    return refusalsIn(printed);
  }

  /** Policies of SAs that it is the shadow of. The SAs come at the takeover: one that is there with old numbers could be used. */
  preparePolicies(): void {
    const tunnel = (from: string, to: string) => `tmpl src ${from} dst ${to} proto esp reqid ${REQID} mode tunnel`;
    const policy = (from: string, to: string, direction: string, template: string) =>
      `xfrm policy update src ${from} dst ${to} dir ${direction} priority ${POLICY_PRIORITY} ${template}`;
    const inner = `${CLIENT_INNER}/32`;
    this.#batch([
      policy(SERVER_NETWORK, inner, "out", tunnel(VIP, CLIENT)),
      policy(inner, SERVER_NETWORK, "fwd", tunnel(CLIENT, VIP)),
      policy(inner, SERVER_NETWORK, "in", tunnel(CLIENT, VIP)),
    ]);
  }

  /**
   * Goes on with a pair of `from`, by what was heard of it until it was fenced, and by what the balancer let through to it. `lagMs`: the
   * longest that a word of it took. Resolves when both SAs are in the kernel, or at once with why not.
   */
  async takeOver(
    from: Gateway,
    pair: SaPair,
    { fencedAtMs, lagMs }: { readonly fencedAtMs: number; readonly lagMs: number },
    balancer: Steering,
  ): Promise<TakeoverPlan | TakeoverRefusal> {
    const { outbound, inbound } = pair;
    const [sent, received] = [from.#followed.get(outbound.spi), from.#followed.get(inbound.spi)];
    if (sent === undefined || received === undefined)
      return { kind: "new-handshake", reason: "rate-unknown", detail: "nothing was heard of the SAs" };
    const ageMs = fencedAtMs - Math.min(sent.atMs, received.atMs) + lagMs;
    const passedAtMost = await balancer.passedAtMost(inbound.spi, received.sequence);
    const plan = takeOver(
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
    if (plan.kind === "new-handshake") return plan;
    await this.#add([
      { ...outbound, inboundSequence: 0, outboundSequence: plan.outboundSequence },
      { ...inbound, inboundSequence: plan.inboundSequence, outboundSequence: 0 },
    ]);
    return plan;
  }

  /** A new IKE SA with the client, beside the one it has: the client keeps both (`unique = never` sends no INITIAL_CONTACT). */
  async authenticate(): Promise<void> {
    await script(this.#guest, `swanctl --initiate --child net --timeout ${IPSEC_BENCH.initiateTimeoutSeconds} ${this.#vici}`);
  }

  /** Says goodbye to the client's IKE SA. */
  async terminate(): Promise<void> {
    await script(this.#guest, `swanctl --terminate --ike net ${this.#vici}`);
  }

  forget({ outbound, inbound }: SaPair): void {
    this.#batch([deleteStateLine(outbound), deleteStateLine(inbound)]);
  }

  /** ESP that comes in waits, so that what the client sends with a new SA finds it installed. */
  async hold(): Promise<void> {
    const delayed = `netem delay ${IPSEC_BENCH.holdMs}ms limit 100000`;
    await this.#insideScript(`ip link show ifb0 >/dev/null 2>&1 || ip link add ifb0 type ifb
      ip link set ifb0 up; tc qdisc replace dev ifb0 root ${delayed}; tc qdisc add dev out0 ingress
      tc filter add dev out0 parent ffff: protocol ip u32 match ip protocol 50 0xff action mirred egress redirect dev ifb0`);
  }

  async release(): Promise<void> {
    const { holdMs, holdStepMs } = IPSEC_BENCH;
    const steps = Array.from({ length: holdMs / holdStepMs }, (_, n) => holdMs - (n + 1) * holdStepMs);
    const step = (delayMs: number) => `tc qdisc change dev ifb0 root netem delay ${delayMs}ms limit 100000`;
    const pause = `sleep ${(holdStepMs * 2) / 1000}`;
    await this.#insideScript(
      [...steps.map(step), "tc qdisc del dev out0 ingress", "tc qdisc del dev ifb0 root"].join(`\n${pause}\n`),
    );
  }

  async #insideScript(text: string): Promise<void> {
    await script(this.#guest, `${this.#inside} sh -euc '${text}'`);
  }

  /** Both are there once the kernel has told of both. */
  async #add(states: readonly XfrmState[]): Promise<void> {
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

/** Of `ip -s xfrm state`: packets that its `stats` lines count as before the window or seen already, and as failed. */
export function refusalsIn(printed: string): { readonly replayed: number; readonly failed: number } {
  const lines = [...printed.matchAll(/replay-window (\d+) replay (\d+) failed (\d+)/g)];
  return {
    replayed: lines.reduce((sum, [, before, seen]) => sum + Number(before) + Number(seen), 0),
    failed: lines.reduce((sum, [, , , failed]) => sum + Number(failed), 0),
  };
}
