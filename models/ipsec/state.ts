/**
 * An IPsec session as Foreshift knows it: what another endpoint needs to go on with its SAs. Keys are there sealed only; a counter
 * is the number that was used last, and everything that changes travels as a delta.
 */
import { z } from "zod";
import { ForeshiftError } from "../errors.ts";
import { IPSEC_LIMITS } from "../limits-ipsec.ts";
import { SocketAddress } from "../session.ts";

/** 256 and above: the lower ones are reserved (RFC 4303, 2.1). */
export const Spi = z
  .number()
  .int()
  .min(IPSEC_LIMITS.spiMin)
  .max(2 ** 32 - 1);

/** An SA's algorithms with their keys, as `vault:vN:…` of transit. Whoever holds the session's state holds no key. */
const SealedKeys = z.string().regex(/^vault:v\d+:[A-Za-z0-9+/=]+$/, "expected keys that transit sealed");

/** Extended numbers are 64 bits wide; those that are not safe integers are more than any SA lives to use. */
const Sequence = z
  .number()
  .int()
  .nonnegative()
  .max(Number.MAX_SAFE_INTEGER - 1);

const Network = z.string().regex(/^[0-9a-fA-F.:]+\/\d{1,3}$/, "expected address/length");

const amount = z.number().int().nonnegative();
/** What an SA has carried, and the highest rate that it has shown in its life: absent where it was not measured yet. */
const Carried = { peakPps: z.number().nonnegative().optional(), bytes: amount.optional(), packets: amount.optional() };

const Outbound = z.strictObject({ spi: Spi, keys: SealedKeys, sequence: Sequence, ...Carried });
const Inbound = Outbound.extend({
  replayWindow: z.number().int().min(1).max(IPSEC_LIMITS.replayWindowMax),
  /** Of the last `replayWindow` numbers those that were seen, the newest as the lowest bit; hexadecimal. */
  seen: z.string().regex(/^[0-9a-f]{1,1024}$/),
});

/** What remains until the hard end of the SA; absent where there is none. */
const Lifetime = z.strictObject({
  endsAtMs: z.number().int().positive().optional(),
  bytesMax: z.number().int().positive().optional(),
  packetsMax: z.number().int().positive().optional(),
});

/** One CHILD SA: the pair of SAs under one set of selectors. */
export const ChildSa = z.strictObject({
  name: z.string().min(1).max(128),
  /** Ties the SAs to their policies; the same on the shadow, so that policies outlive the SAs. */
  reqid: z.number().int().min(1),
  mode: z.enum(["tunnel", "transport"]),
  /** Extended sequence numbers (RFC 4304). */
  esn: z.boolean(),
  local: z.array(Network).min(1).max(IPSEC_LIMITS.selectorsMax),
  remote: z.array(Network).min(1).max(IPSEC_LIMITS.selectorsMax),
  /** UDP encapsulation (RFC 3948): the ports as the gateway sends. */
  encapsulation: z
    .strictObject({ localPort: z.number().int().min(1).max(65_535), remotePort: z.number().int().min(1).max(65_535) })
    .optional(),
  outbound: Outbound,
  inbound: Inbound,
  lifetime: Lifetime,
  /** By both SAs together. */
  bytes: amount,
  packets: amount,
});
export type ChildSa = z.infer<typeof ChildSa>;

const IkeSpi = z.string().regex(/^[0-9a-f]{16}$/, "expected 16 hexadecimal digits");

/** The IKE SA is known, not held: a shadow makes one of its own (docs/ipsec.md). */
const IkeSa = z.strictObject({
  connection: z.string().min(1).max(128),
  initiatorSpi: IkeSpi,
  responderSpi: IkeSpi,
  local: SocketAddress,
  remote: SocketAddress,
  localId: z.string().max(256),
  remoteId: z.string().max(256),
});

/** One client's session with its endpoint: an IKE SA and the CHILD SAs under it. */
export const IpsecSession = z.strictObject({
  endpoint: z.string().min(1),
  shadow: z.string().min(1).optional(),
  ike: IkeSa,
  children: z.array(ChildSa).min(1).max(IPSEC_LIMITS.childrenMax),
  /** Grows with every change. */
  version: z.number().int().nonnegative(),
  /** When the counters were read, by the collector's clock as the endpoint knows it, in Unix milliseconds. */
  updatedAtMs: z.number().int().nonnegative(),
});
export type IpsecSession = z.infer<typeof IpsecSession>;

/** Names a session among all of its swarm: the SPIs of its IKE SA, initiator's first. */
export const SessionId = z.string().regex(/^[0-9a-f]{32}$/, "expected 32 hexadecimal digits");

export function sessionId({ ike }: Pick<IpsecSession, "ike">): string {
  return `${ike.initiatorSpi}${ike.responderSpi}`;
}

/** What moved of one SA since the last word of it. */
export const CounterDelta = z.strictObject({
  spi: Spi,
  sequence: Sequence,
  /** Of an inbound SA alone. */
  seen: Inbound.shape.seen.optional(),
  ...Carried,
});
export type CounterDelta = z.infer<typeof CounterDelta>;

/** Deltas of one endpoint's session, read at one moment. */
export const SessionDelta = z.strictObject({
  version: z.number().int().nonnegative(),
  atMs: z.number().int().nonnegative(),
  counters: z.array(CounterDelta).max(IPSEC_LIMITS.childrenMax * 2),
});
export type SessionDelta = z.infer<typeof SessionDelta>;

/**
 * The session after a delta. An older word than what is known (by version) changes nothing: words overtake one another. INVALID_FIELD
 * when an SA is not the session's, or a newer word takes a counter back.
 */
export function applyDelta(session: IpsecSession, delta: SessionDelta): IpsecSession {
  if (delta.version <= session.version) return session;
  const bySpi = new Map(delta.counters.map((counter) => [counter.spi, counter]));
  const children = session.children.map((child) => {
    const outbound = advanced(child.outbound, bySpi.get(child.outbound.spi));
    const inbound = advanced(child.inbound, bySpi.get(child.inbound.spi));
    return { ...child, outbound, inbound, ...carriedBy(child, [outbound, inbound]) };
  });
  const known = new Set(session.children.flatMap((child) => [child.outbound.spi, child.inbound.spi]));
  for (const spi of bySpi.keys()) if (!known.has(spi)) refuse("spi", spi, "the session has no such SA");
  return { ...session, children, version: delta.version, updatedAtMs: delta.atMs };
}

/**
 * A whole copy in place of what is known. An older one changes nothing; of an SA that both have, the higher counter and the higher rate
 * stand, for words overtake one another.
 */
export function applyCopy(known: IpsecSession | undefined, copy: IpsecSession): IpsecSession {
  if (known === undefined) return copy;
  if (copy.version <= known.version) return known;
  const before = new Map(
    known.children.flatMap(({ outbound, inbound }) => [outbound, inbound]).map((half) => [half.spi, half]),
  );
  const kept = <H extends Half>(half: H): H => {
    const old = before.get(half.spi);
    if (old === undefined) return half;
    const peakPps = highest(old.peakPps, half.peakPps);
    return { ...half, sequence: Math.max(old.sequence, half.sequence), ...(peakPps === undefined ? {} : { peakPps }) };
  };
  const children = copy.children.map((child) => ({ ...child, outbound: kept(child.outbound), inbound: kept(child.inbound) }));
  return { ...copy, children };
}

type Half = Pick<ChildSa["outbound"], "spi" | "sequence" | "peakPps" | "bytes" | "packets">;

function advanced<H extends Half>(half: H, delta: CounterDelta | undefined): H {
  if (delta === undefined) return half;
  if (delta.sequence < half.sequence)
    refuse("sequence", delta.sequence, `a newer word takes it back; it was ${half.sequence} before`);
  const { spi: _, seen, peakPps: told, ...counted } = delta;
  const peakPps = highest(half.peakPps, told);
  const next = { ...half, ...counted, ...(peakPps === undefined ? {} : { peakPps }) };
  return "seen" in half && seen !== undefined ? { ...next, seen } : next;
}

/** Of both SAs together, where both say it. */
function carriedBy({ bytes, packets }: ChildSa, halves: readonly Half[]): { readonly bytes: number; readonly packets: number } {
  const sum = (known: number, field: "bytes" | "packets") =>
    Math.max(
      known,
      halves.reduce((total, half) => total + (half[field] ?? 0), 0),
    );
  return { bytes: sum(bytes, "bytes"), packets: sum(packets, "packets") };
}

function highest(one: number | undefined, other: number | undefined): number | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return Math.max(one, other);
}

function refuse(field: string, value: number, detail: string): never {
  throw new ForeshiftError("INVALID_FIELD", { field, value: String(value), detail });
}
