/**
 * A certificate authority in memory, for tests of what is signed: lists with any content, good and bad.
 */
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";

const ECDSA_WITH_SHA256 = Buffer.from("300a06082a8648ce3d040302", "hex");

export interface CrlContent {
  readonly number: bigint;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
  /** Upper-case hex of whole bytes, without leading zeros. */
  readonly serials: readonly string[];
  /** One more extension, DER, in the list of them. */
  readonly extension?: Buffer;
}

export const ISSUER = seq(Buffer.from("310f300d06035504030c06546573747321", "hex"));

export function makeKey(): { readonly privateKey: KeyObject; readonly publicKey: KeyObject } {
  return generateKeyPairSync("ec", { namedCurve: "P-256" });
}

/** A list, signed as RFC 5280 wants it. */
export function makeCrl(privateKey: KeyObject, content: CrlContent): Buffer {
  const revoked = content.serials.map((serial) => seq(integer(serial), time(content.thisUpdateMs)));
  const number = seq(Buffer.from("0603551d14", "hex"), der(0x04, integer(hexOf(content.number))));
  const extensions = der(0xa0, seq(number, ...(content.extension === undefined ? [] : [content.extension])));
  const tbs = seq(
    integer("01"),
    ECDSA_WITH_SHA256,
    ISSUER,
    time(content.thisUpdateMs),
    time(content.nextUpdateMs),
    ...(revoked.length === 0 ? [] : [seq(...revoked)]),
    extensions,
  );
  return seq(tbs, ECDSA_WITH_SHA256, der(0x03, Buffer.from([0]), sign("sha256", tbs, privateKey)));
}

export function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const bytes = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...bytes]), content]);
}

export function seq(...parts: readonly Buffer[]): Buffer {
  return der(0x30, ...parts);
}

function integer(hex: string): Buffer {
  const bytes = Buffer.from(hex, "hex");
  return der(0x02, (bytes[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes);
}

function hexOf(number: bigint): string {
  const hex = number.toString(16);
  return hex.length % 2 === 0 ? hex : `0${hex}`;
}

function time(ms: number): Buffer {
  return der(0x18, Buffer.from(`${new Date(ms).toISOString().replace(/[-:T]|\.\d+Z/g, "")}Z`));
}
