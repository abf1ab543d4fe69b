/**
 * The heartbeat: puts together what is measured here, sends it, and takes from the answer what it says of clocks and of other endpoints.
 */
import { z } from "zod";
import { NO_RETRY, type UnixHttpClient } from "../../drivers/http-unix.ts";
import { LIMITS } from "../../models/limits.ts";
import type { Heartbeat } from "../../models/observation.ts";
import type { SessionState } from "../../models/session.ts";
import { EndpointName } from "../../models/steering.ts";
import { CarriedLoss, packetsTaken } from "./carried-loss.ts";
import { ClockOffset } from "./clock-offset.ts";
import type { AgentConfig } from "./config.ts";
import { InstanceNotices } from "./instance-notices.ts";
import { PathProber, type PathTarget } from "./path-prober.ts";
import { TunnelVitals } from "./tunnel-vitals.ts";
import { VitalsReader } from "./vitals.ts";

const moment = z.number().nonnegative();
/** Collectors of the first version say no more than that they took it. */
const Answer = z.object({
  receivedAtMs: moment.optional(),
  answeredAtMs: moment.optional(),
  peers: z.array(z.object({ endpoint: EndpointName, address: z.union([z.ipv4(), z.ipv6()]) })).optional(),
});
type OfferedPeer = NonNullable<z.infer<typeof Answer>["peers"]>[number];

const round = z.number().nonnegative().optional();
const ProbeAnswer = z.object({
  sent: z.number().int().nonnegative(),
  answered: z.number().int().nonnegative(),
  rttMsP50: round,
  rttMsP75: round,
  rttMsMax: round,
});
/** What the balancer answers to a set of sessions: its own probes of this endpoint, where it has some. */
export const BalancerAnswer = z.object({
  probes: z.object({ inner: ProbeAnswer, outer: ProbeAnswer }).optional(),
  /** Packets that the router has sent to this endpoint so far. */
  sentHere: z.object({ packets: z.number().nonnegative(), atMs: moment }).optional(),
});
export type BalancerAnswer = z.infer<typeof BalancerAnswer>;

/** The label of the way to the balancer; no endpoint has this name in a lab, and in a fleet it would be a confusing one. */
const BALANCER = "balancer";

export class Reporter {
  readonly tunnel = new TunnelVitals();
  readonly #config: AgentConfig;
  readonly #collector: UnixHttpClient;
  readonly #vitals: VitalsReader;
  readonly #clock = new ClockOffset();
  readonly #paths = new PathProber();
  readonly #carried = new CarriedLoss();
  readonly #notices: InstanceNotices | undefined;
  readonly #startedAtMs = Date.now();
  #heartbeats = 0;
  #balancer: { readonly atMs: number; readonly gauges: Readonly<Record<string, number>> } | undefined;

  constructor(parts: { config: AgentConfig; collector: UnixHttpClient }) {
    this.#config = parts.config;
    this.#collector = parts.collector;
    this.#vitals = new VitalsReader(parts.config);
    this.#notices = parts.config.cloud === undefined ? undefined : new InstanceNotices(parts.config.cloud);
    this.#measurePaths([], []);
  }

  close(): void {
    this.#paths.close();
    this.#notices?.close();
  }

  /** This machine's clock less the collector's; undefined before they were compared. */
  get clockOffsetMs(): number | undefined {
    return this.#clock.offsetMs;
  }

  /** Begins what is measured from one reading to the next. */
  begin(): void {
    this.#vitals.read();
  }

  balancerAnswered({ probes, sentHere }: BalancerAnswer): void {
    if (sentHere !== undefined) this.#carried.sent(sentHere);
    if (probes === undefined) return;
    this.#balancer = {
      atMs: performance.now(),
      gauges: { ...probed("inner", probes.inner), ...probed("outer", probes.outer) },
    };
  }

  /** Asked often, so that the router's count meets one of about the same moment. */
  countPackets(): void {
    const packets = packetsTaken(this.#config.device);
    this.#carried.took(packets === undefined ? undefined : { packets, atMs: Date.now() });
  }

  async send(now: { tunnelUp: boolean; sessions: readonly SessionState[] }): Promise<void> {
    const body = this.#heartbeat(now);
    const begunAtMs = performance.now();
    const options = { timeoutMs: this.#config.pace.pushTimeoutMs, retry: NO_RETRY, schema: Answer, body };
    const { receivedAtMs, answeredAtMs, peers } = await this.#collector.post("/v1/heartbeats", options);
    if (receivedAtMs !== undefined && answeredAtMs !== undefined) {
      this.#clock.note({
        sentAtMs: body.atMs,
        answeredAtMs: body.atMs + (performance.now() - begunAtMs),
        receivedThereAtMs: receivedAtMs,
        answeredThereAtMs: answeredAtMs,
      });
    }
    this.#measurePaths(peers ?? [], now.sessions);
  }

  #heartbeat({ tunnelUp, sessions }: { tunnelUp: boolean; sessions: readonly SessionState[] }): Heartbeat {
    const { swarm, endpoint, place, probes } = this.#config;
    this.#heartbeats += 1;
    const monotonicMs = performance.now();
    const { vitals, gauges, counters } = this.#vitals.read();
    const atMs = Date.now();
    const carriedLossShare = this.#carried.share();
    const fresh = this.#balancer !== undefined && monotonicMs - this.#balancer.atMs <= LIMITS.agent.balancerWordMsMax;
    return {
      swarm,
      endpoint,
      atMs,
      sequence: this.#heartbeats,
      startedAtMs: this.#startedAtMs,
      ...vitals,
      tunnelUp,
      sessions: sessions.length,
      sample: {
        monotonicMs,
        gauges: {
          ...gauges,
          ...this.tunnel.gauges(sessions, atMs),
          ...this.#clock.gauges(),
          ...this.#paths.gauges(),
          ...this.#notices?.gauges(),
          ...(carriedLossShare === undefined ? {} : { carriedLossShare }),
          ...(fresh ? this.#balancer?.gauges : {}),
        },
        counters: { ...counters, ...this.tunnel.counters(sessions) },
      },
      ...(place === undefined ? {} : { place }),
      ...(probes === undefined ? {} : { probeAddress: probes.address }),
    };
  }

  #measurePaths(offered: readonly OfferedPeer[], sessions: readonly SessionState[]): void {
    const { probes } = this.#config;
    if (probes === undefined) return;
    const balancer: PathTarget[] = probes.balancer === undefined ? [] : [{ label: BALANCER, address: probes.balancer }];
    const peers = chosenPeers(offered, sessions).map(({ endpoint, address }) => ({
      label: endpoint,
      address,
      from: probes.address,
    }));
    this.#paths.measure([...balancer, ...peers]);
  }
}

/** Those that shadow the most sessions of this endpoint first: the ways its sessions would go. */
function chosenPeers(offered: readonly OfferedPeer[], sessions: readonly SessionState[]): readonly OfferedPeer[] {
  const shadowed = new Map<string, number>();
  for (const { shadow } of sessions) if (shadow !== undefined) shadowed.set(shadow, (shadowed.get(shadow) ?? 0) + 1);
  const count = ({ endpoint }: OfferedPeer) => shadowed.get(endpoint) ?? 0;
  return offered.toSorted((one, other) => count(other) - count(one)).slice(0, LIMITS.paths.peersMax);
}

/** Few probes are weak evidence of loss. */
function probed(way: "inner" | "outer", stats: z.infer<typeof ProbeAnswer>): Readonly<Record<string, number>> {
  const { sent, answered, rttMsP50, rttMsP75, rttMsMax } = stats;
  const gauges: Record<string, number | undefined> = {
    [`${way}LossShare`]: sent < LIMITS.plan.probesMin ? undefined : Math.max(0, 1 - answered / sent),
    [`${way}RttMsP50`]: rttMsP50,
    ...(way === "inner" ? { innerRttMsP75: rttMsP75, innerRttMsMax: rttMsMax } : {}),
  };
  return Object.fromEntries(Object.entries(gauges).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
}
