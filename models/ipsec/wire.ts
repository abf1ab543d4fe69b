/**
 * What agents, collector and balancer say to one another of IPsec sessions. Keys are sealed in all of it; between balancer and agents there are
 * none at all.
 */
import { z } from "zod";
import { IPSEC_LIMITS } from "../limits-ipsec.ts";
import { EndpointName, SwarmName } from "../steering.ts";
import { IpsecSession, SessionDelta, SessionId, Spi } from "./state.ts";

const { sessionsMax, childrenMax } = IPSEC_LIMITS;
const Sequence = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);

const moment = z.number().nonnegative();

const NamedDelta = SessionDelta.extend({ session: SessionId });
export type NamedDelta = z.infer<typeof NamedDelta>;

/** An endpoint's word to the collector: whole copies of sessions that it has not told yet, what moved of the others, and those that ended. */
export const IpsecWord = z.strictObject({
  swarm: SwarmName,
  endpoint: EndpointName,
  /** When it is sent, by the collector's clock as the endpoint knows it. */
  sentAtMs: moment,
  copies: z.array(IpsecSession).max(sessionsMax),
  deltas: z.array(NamedDelta).max(sessionsMax),
  gone: z.array(SessionId).max(sessionsMax),
});
export type IpsecWord = z.infer<typeof IpsecWord>;

/**
 * The answer: sessions whose copy it does not have, and the shadow of each that has one, unless those are known by the version that the word
 * came with (`?shadows=`).
 */
export const IpsecTaken = z.object({
  unknown: z.array(SessionId),
  shadows: z.record(SessionId, EndpointName).optional(),
  shadowsVersion: z.number().int().nonnegative().optional(),
});
export type IpsecTaken = z.infer<typeof IpsecTaken>;

/** Lines of the session stream for the endpoint that is the sessions' shadow. `ipsecAnew` opens it: what was held before is of the past. */
export const IpsecLine = z.union([
  // First what comes most: they are tried in turn.
  z.strictObject({ ipsecDelta: NamedDelta, sentAtMs: moment }),
  z.strictObject({ ipsec: IpsecSession, sentAtMs: moment }),
  z.strictObject({ ipsecAnew: z.literal(true) }),
  z.strictObject({ ipsecGone: SessionId }),
]);
export type IpsecLine = z.infer<typeof IpsecLine>;

/** One session as the balancer has to know it. */
export const SteeredSession = z.strictObject({
  session: SessionId,
  client: z.ipv4(),
  /** Names in strongSwan's configuration, by which any endpoint can begin a handshake with the client. */
  connection: z.string().min(1).max(128),
  child: z.string().min(1).max(128),
  /** Hosts among what the client may send from. */
  innerAddresses: z.array(z.ipv4()).max(IPSEC_LIMITS.selectorsMax * childrenMax),
  shadow: EndpointName.optional(),
  inbound: z.array(z.strictObject({ spi: Spi, sequence: Sequence })).max(childrenMax),
});
export type SteeredSession = z.infer<typeof SteeredSession>;

/** An endpoint's word to the balancer: all of its sessions, and every SPI that its kernel takes ESP by. */
export const SteeringWord = z.strictObject({
  sessions: z.array(SteeredSession).max(sessionsMax),
  held: z.array(Spi).max(IPSEC_LIMITS.spisMax),
});
export type SteeringWord = z.infer<typeof SteeringWord>;

/** What the balancer knows of an SPI: no number above this one reached the endpoint; or, for as long as a shadow's word may be old, none at all. */
const Passed = z.union([
  z.strictObject({ spi: Spi, atMost: Sequence }),
  z.strictObject({ spi: Spi, nothing: z.literal(true) }),
]);
export type Passed = z.infer<typeof Passed>;

/**
 * From an endpoint that is left on purpose, which has taken its SAs out: their last numbers, in each one's own direction, and how long before its
 * SAs were gone the kernel was asked for them.
 */
export const HandedOver = z.object({
  ageMs: z.number().nonnegative(),
  counters: z.array(z.strictObject({ spi: Spi, sequence: Sequence })).max(IPSEC_LIMITS.spisMax),
});
export type HandedOver = z.infer<typeof HandedOver>;

/** To an endpoint, once nothing of `from` passes any more. */
export const TakeOverOrder = z.strictObject({
  operation: z.string().min(1).max(512),
  from: EndpointName,
  /** When `from` was there to say it. */
  handedOver: HandedOver.optional(),
  sessions: z
    .array(
      SteeredSession.pick({ session: true, connection: true, child: true }).extend({
        passed: z.array(Passed).max(childrenMax),
      }),
    )
    .max(sessionsMax),
});
export type TakeOverOrder = z.infer<typeof TakeOverOrder>;

/** Of one session: how many of its CHILD SAs go on with their keys, what they skip at most, and why others do not. */
export const TakeOverOutcome = z.object({
  session: SessionId,
  goneOn: z.number().int().nonnegative(),
  outboundJump: z.number().int().nonnegative(),
  inboundJump: z.number().int().nonnegative(),
  ageMs: z.number().nonnegative().optional(),
  refusals: z.array(z.string()),
});
export type TakeOverOutcome = z.infer<typeof TakeOverOutcome>;

const ChildNames = z.array(z.string().min(1).max(128)).min(1).max(childrenMax);

/** A session where it lives, as whoever moves it has to know it. */
export const HeldIpsec = SteeredSession.pick({ session: true, client: true, connection: true, shadow: true }).extend({
  children: ChildNames,
  /** The last numbers of its inbound SAs together: grows while the client sends. */
  received: Sequence,
});
export type HeldIpsec = z.infer<typeof HeldIpsec>;

/** To an endpoint that is to have an IKE SA of its own with each of these clients, while they go on with the one that they have. */
export const AdoptIpsecOrder = z.strictObject({
  operation: z.string().min(1).max(512),
  sessions: z
    .array(SteeredSession.pick({ session: true, client: true, connection: true }).extend({ children: ChildNames }))
    .max(sessionsMax),
});
export type AdoptIpsecOrder = z.infer<typeof AdoptIpsecOrder>;

/** How far the endpoint has come with one of them. */
export const AdoptedIpsec = z.object({
  session: SessionId,
  /** `up`: it has SAs of its own with the client, and the balancer knows. */
  state: z.enum(["begun", "up", "failed"]),
  /** The session that it made, once it is up. */
  made: SessionId.optional(),
  /** The client's packets come by it. */
  received: z.boolean(),
  detail: z.string().optional(),
});
export type AdoptedIpsec = z.infer<typeof AdoptedIpsec>;

/** To an endpoint whose clients have sessions elsewhere: it says goodbye to these. */
export const LetGoIpsecOrder = z.strictObject({
  operation: z.string().min(1).max(512),
  sessions: z.array(SessionId).max(sessionsMax),
});
export type LetGoIpsecOrder = z.infer<typeof LetGoIpsecOrder>;

/** To an endpoint whose SAs, inbound by these SPIs, another goes on with, or is about to. */
export const RetireOrder = z.strictObject({
  operation: z.string().min(1).max(512),
  spis: z.array(Spi).max(IPSEC_LIMITS.spisMax),
});
export type RetireOrder = z.infer<typeof RetireOrder>;
