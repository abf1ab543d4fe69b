/**
 * What the balancer is told: the desired state of one swarm's steering. Declarative, and versioned by an epoch that only grows.
 */
import { z } from "zod";
import { SocketAddress } from "./session.ts";

const Name = z.string().regex(/^[a-z][a-z0-9-]{0,30}$/, "expected 1 to 31 of a-z, 0-9 and -, a letter first");
export const EndpointName = Name;
export const SwarmName = Name;

/** Revoked endpoints that a balancer remembers; the database remembers all. */
export const REVOKED_KEPT_MAX = 1_024;

/** How new sessions are spread over the members. */
export const Algorithm = z.enum(["consistent-hash", "weighted-round-robin", "least-connections"]);
export type Algorithm = z.infer<typeof Algorithm>;

/** How the balancer reaches a member: layer 2 towards it, and the router's layer 2 for the way back. */
export const MemberLink = z.strictObject({
  /** Interface of the balancer's host that leads to the member, and the member's MAC address on it. */
  device: z.string().min(1),
  mac: z.string().regex(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/),
  /** Interface of the router's host that leads to the member's inner side, and its MAC address. */
  returnDevice: z.string().min(1),
  returnMac: z.string().regex(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/),
  /** The member's own address, where its WireGuard can be probed without the balancer. */
  probeAddress: z.string().min(3),
  /** Inner address whose packets the router always returns to this member: the probe peer's. */
  probeInnerAddress: z.string().min(3),
  /** Unix socket of the member's agent. */
  agent: z.string().min(1),
});
export type MemberLink = z.infer<typeof MemberLink>;

export const Member = z.strictObject({
  endpoint: EndpointName,
  /** 0 takes no new sessions by hash; 100 is a full share. */
  weight: z.number().int().min(0).max(100),
  /** A draining member keeps its sessions and gets no new ones. */
  draining: z.boolean(),
  link: MemberLink,
});
export type Member = z.infer<typeof Member>;

/** Outlier ejection, as in Envoy: what the reflex may do on its own. */
export const OutlierPolicy = z.strictObject({
  probeIntervalMs: z.number().int().min(20).max(60_000).default(100),
  probeTimeoutMs: z.number().int().min(10).max(60_000).default(50),
  missesToEject: z.number().int().min(1).max(100).default(3),
  /** Answers in a row before a member counts as healthy (again). */
  answersToReturn: z.number().int().min(1).max(1000).default(5),
  /** At most this share of the members is ejected at a time, and at least one may be. */
  ejectedShareMaxPercent: z.number().int().min(0).max(100).default(34),
  /** Fewer healthy members than this: the prober is doubted, nobody is ejected. */
  panicThresholdPercent: z.number().int().min(0).max(100).default(50),
  /** First ejection; doubles with each further one, up to the longest. */
  ejectionBaseMs: z.number().int().min(100).default(5_000),
  ejectionLongestMs: z.number().int().min(100).default(300_000),
  /** A returning member's weight rises from 10 % to its full value in this time. */
  slowStartMs: z.number().int().min(0).default(10_000),
  /**
   * After an ejection the shadows start the handshakes themselves. Off: clients find out on their own, as with stock WireGuard, and no
   * workflow calls them or repairs the endpoint before they had the time to.
   */
  takeover: z.boolean().default(true),
});
export type OutlierPolicy = z.infer<typeof OutlierPolicy>;

/** Handshakes from this client go to this endpoint, whatever the table says. */
export const Pin = z.strictObject({ client: SocketAddress, endpoint: EndpointName });
export type Pin = z.infer<typeof Pin>;

/** New IKE SAs of this client go to this endpoint, which takes it over from `from`; what it has goes on where it is. */
export const IpsecPin = z.strictObject({ client: z.ipv4(), endpoint: EndpointName, from: EndpointName });
export type IpsecPin = z.infer<typeof IpsecPin>;

/** Packets to this inner address go back through this endpoint. */
export const ReturnRoute = z.strictObject({ innerAddress: z.string().min(2), endpoint: EndpointName });
export type ReturnRoute = z.infer<typeof ReturnRoute>;

export const SteeringState = z.strictObject({
  swarm: SwarmName,
  /** Only grows. A state whose epoch is not above the held one is refused. */
  epoch: z.number().int().positive(),
  /** The port after it is the VIP's as well (models/static-identities.ts). */
  vip: z.strictObject({ v4: z.ipv4(), v6: z.ipv6().optional(), port: z.number().int().min(1).max(65_534) }),
  algorithm: Algorithm,
  /** The swarm's WireGuard public key, which the probe's handshakes are made with. */
  swarmPublicKey: z.string(),
  /** Port of that key at the endpoints, where it is not the VIP's (models/static-identities.ts). */
  swarmPort: z.number().int().min(1).max(65_535).optional(),
  members: z.array(Member).max(512),
  pins: z.array(Pin).max(65_536),
  ipsecPins: z.array(IpsecPin).max(65_536).optional(),
  returnRoutes: z.array(ReturnRoute).max(65_536),
  outlier: OutlierPolicy,
  /** Sessions that one member carries at weight 100. Without it nobody is taken for overloaded. */
  capacitySessions: z.number().int().min(1).optional(),
  /**
   * Endpoints that were revoked. As a member such a one gets no weight, loses its sessions to its shadows, is put out and stays out; its
   * agent is not heard. Names are not used twice, so the latest are kept.
   */
  revoked: z.array(EndpointName).max(REVOKED_KEPT_MAX).optional(),
});
export type SteeringState = z.infer<typeof SteeringState>;

/** What the probes say of a member, as of `atMs` (Unix milliseconds). */
export interface MemberHealth {
  readonly endpoint: string;
  readonly weight: number;
  readonly draining: boolean;
  /** Weight in force: after slow start and ejection. */
  readonly effectiveWeight: number;
  readonly inner: ProbeStats;
  readonly outer: ProbeStats;
  readonly ejected: boolean;
  readonly ejectedAtMs: number | undefined;
  readonly ejections: number;
  /** It loses probes and is at work all the same: it has more to carry than it can. Absent from what knows of no overload. */
  readonly overloaded?: boolean | undefined;
  /** Sessions whose keys it holds, as far as the reflex knows. */
  readonly sessions: number;
  /** IPsec sessions that live there. Absent where it is no IPsec gateway, as far as the reflex knows. */
  readonly ipsecSessions?: number | undefined;
}

/** Over the last `windowMs` (see limits). */
export interface ProbeStats {
  readonly sent: number;
  readonly answered: number;
  readonly missesInARow: number;
  readonly answersInARow: number;
  /** Round trips in milliseconds; undefined before the first answer. */
  readonly rttMsP50: number | undefined;
  /** The upper quartile: queues show here while the median still looks well. */
  readonly rttMsP75: number | undefined;
  readonly rttMsMax: number | undefined;
  readonly lastAnswerAtMs: number | undefined;
}

/** What the reflex did or saw; numbered without gaps, kept on disk until reported. */
export interface ReflexEvent {
  readonly seq: number;
  readonly atMs: number;
  readonly kind:
    | "ejected"
    | "returned"
    | "ejection-refused"
    | "overloaded"
    | "panic"
    | "sessions-moved"
    | "desired-applied"
    | "restarted";
  readonly endpoint: string | undefined;
  /** One sentence for a person. */
  readonly text: string;
  /** Machine-readable particulars: counts, milliseconds, names. No secrets. */
  readonly details: Readonly<Record<string, string | number | boolean | readonly string[]>>;
}
