/**
 * Certificate revocation lists (RFC 5280, section 5): read strictly, and judged: which certificates may be used by them, and which of two
 * lists counts. Whether the signature is good is for the caller to check, over `signed`.
 */
import { DER_TAG, DerError, DerReader, timeMs, toHex, unsignedHex } from "./der.ts";
import { ForeshiftError } from "./errors.ts";
import { IDENTITY_LIMITS } from "./limits-identity.ts";

export interface Crl {
  /** The issuer's name, DER in hex: equal to that of the authority that signs the certificates. */
  readonly issuer: string;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
  /** Grows with every list of an authority. */
  readonly number: bigint;
  /** Serial numbers, upper-case hex of whole bytes. */
  readonly revoked: ReadonlySet<string>;
  readonly signed: {
    readonly content: Uint8Array;
    /** Of the signature's algorithm, DER in hex, parameters included. */
    readonly algorithm: string;
    readonly signature: Uint8Array;
  };
}

/** 2.5.29.20, cRLNumber. */
const CRL_NUMBER = "551D14";

/** CRL_REFUSED, naming what is wrong with it; a list that differs in one bit from a good one is never read as something else. */
export function parseCrl(der: Uint8Array): Crl {
  if (der.length > IDENTITY_LIMITS.crlBytesMax) throw refused(`it has more than ${IDENTITY_LIMITS.crlBytesMax} bytes`);
  try {
    return readList(der);
  } catch (thrown) {
    if (thrown instanceof DerError) throw refused(thrown.message);
    throw thrown;
  }
}

function readList(der: Uint8Array): Crl {
  const outer = new DerReader(der);
  const list = outer.enter(DER_TAG.sequence);
  outer.end();
  const content = list.expect(DER_TAG.sequence);
  const algorithm = toHex(list.expect(DER_TAG.sequence).whole);
  const signature = list.expect(DER_TAG.bitString).content;
  list.end();
  if (signature.length < 2 || signature[0] !== 0) throw new DerError("a signature that is not whole bytes");
  const tbs = new DerReader(content.content);
  // Version 2 alone has the extensions that tell one list from an older one.
  if (unsignedHex(tbs.expect(DER_TAG.integer)) !== "01") throw new DerError("a list that is not of version 2");
  if (toHex(tbs.expect(DER_TAG.sequence).whole) !== algorithm) throw new DerError("two signature algorithms");
  const issuer = toHex(tbs.expect(DER_TAG.sequence).whole);
  const thisUpdateMs = timeMs(tbs.any());
  const nextUpdateMs = timeMs(tbs.any());
  if (nextUpdateMs <= thisUpdateMs) throw new DerError("it ends before it begins");
  const revoked = tbs.peek() === DER_TAG.sequence ? readRevoked(tbs.enter(DER_TAG.sequence)) : new Set<string>();
  const number = readNumber(tbs.enter(DER_TAG.explicit0));
  tbs.end();
  return {
    issuer,
    thisUpdateMs,
    nextUpdateMs,
    number,
    revoked,
    signed: { content: content.whole, algorithm, signature: signature.subarray(1) },
  };
}

function readRevoked(entries: DerReader): ReadonlySet<string> {
  const revoked = new Set<string>();
  while (!entries.done) {
    const entry = entries.enter(DER_TAG.sequence);
    const serial = unsignedHex(entry.expect(DER_TAG.integer));
    timeMs(entry.any());
    if (!entry.done) for (const [, critical] of readExtensions(entry.enter(DER_TAG.sequence))) refuseCritical(critical);
    entry.end();
    if (revoked.has(serial)) throw new DerError("a certificate that is named twice");
    revoked.add(serial);
    if (revoked.size > IDENTITY_LIMITS.crlEntriesMax)
      throw refused(`it names more than ${IDENTITY_LIMITS.crlEntriesMax} certificates`);
  }
  return revoked;
}

function readNumber(wrapper: DerReader): bigint {
  const extensions = readExtensions(wrapper.enter(DER_TAG.sequence));
  wrapper.end();
  let number: bigint | undefined;
  for (const [oid, critical, value] of extensions) {
    if (oid === CRL_NUMBER) {
      const inner = new DerReader(value);
      number = BigInt(`0x${unsignedHex(inner.expect(DER_TAG.integer))}`);
      inner.end();
    } else refuseCritical(critical);
  }
  if (number === undefined) throw new DerError("a list without a number");
  return number;
}

type Extension = readonly [oid: string, critical: boolean, value: Uint8Array];

function readExtensions(list: DerReader): readonly Extension[] {
  const extensions: Extension[] = [];
  while (!list.done) {
    const extension = list.enter(DER_TAG.sequence);
    const oid = toHex(extension.expect(DER_TAG.oid).content);
    let critical = false;
    if (extension.peek() === DER_TAG.boolean) {
      const { content } = extension.expect(DER_TAG.boolean);
      // FALSE is the default, which DER leaves out.
      if (content.length !== 1 || content[0] !== 0xff) throw new DerError("a boolean that DER does not have");
      critical = true;
    }
    const { content: value } = extension.expect(DER_TAG.octetString);
    extension.end();
    if (extensions.some(([known]) => known === oid)) throw new DerError("an extension that comes twice");
    extensions.push([oid, critical, value]);
  }
  return extensions;
}

/** What must be understood and is not (a delta list, an indirect one) is not a list of ours. */
function refuseCritical(critical: boolean): void {
  if (critical) throw new DerError("a critical extension that is not known");
}

function refused(detail: string): ForeshiftError {
  return new ForeshiftError("CRL_REFUSED", { detail });
}

/** Whether `next` takes the place of `held`: never an older one, which somebody may have kept for the day they are revoked. */
export function supersedes(held: Pick<Crl, "number" | "issuer"> | undefined, next: Pick<Crl, "number" | "issuer">): boolean {
  return held === undefined || held.issuer !== next.issuer || next.number > held.number;
}

/** What happens while no list is valid: none was ever had, it is past its end, or nobody has confirmed it for too long. */
export interface StaleCrlPolicy {
  readonly newConnections: "refuse" | "accept";
  readonly established: "keep" | "close";
}

export interface HeldCrl {
  readonly crl: Crl;
  /** When a source last said that this is the newest, Unix milliseconds. */
  readonly confirmedAtMs: number;
}

export type Standing =
  | { readonly use: true }
  | { readonly use: false; readonly why: "revoked" | "crl-absent" | "crl-expired" | "crl-unconfirmed" };

export interface StandingOptions {
  readonly policy: StaleCrlPolicy;
  /** Silence of every source that makes a list stale before its own end; undefined: its end alone does. */
  readonly confirmWithinMs?: number | undefined;
  readonly established: boolean;
  readonly nowMs: number;
}

/** Whether a certificate may be used. A certificate on the list never may, however old the list is. */
export function standing(serial: string, held: HeldCrl | undefined, options: StandingOptions): Standing {
  if (held?.crl.revoked.has(serial) === true) return { use: false, why: "revoked" };
  const why = staleness(held, options);
  if (why === undefined) return { use: true };
  const { policy, established } = options;
  const goesOn = established ? policy.established === "keep" : policy.newConnections === "accept";
  return goesOn ? { use: true } : { use: false, why };
}

function staleness(held: HeldCrl | undefined, { confirmWithinMs, nowMs }: StandingOptions) {
  if (held === undefined) return "crl-absent";
  if (nowMs >= held.crl.nextUpdateMs) return "crl-expired";
  if (confirmWithinMs !== undefined && nowMs - held.confirmedAtMs > confirmWithinMs) return "crl-unconfirmed";
  return undefined;
}
