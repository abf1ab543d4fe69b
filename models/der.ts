/**
 * Reading DER (X.690) strictly: definite lengths in their shortest form, nothing left over. What is not exactly that is refused, because two
 * readers that differ on it are how revocation is slipped past.
 */

export class DerError extends Error {
  override readonly name = "DerError";
}

export interface DerValue {
  readonly tag: number;
  readonly content: Uint8Array;
  /** With tag and length. */
  readonly whole: Uint8Array;
}

export const DER_TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  explicit0: 0xa0,
} as const;

/** The values that follow each other in `bytes`, to its very end. */
export class DerReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** Tag of the next value; undefined at the end. */
  peek(): number | undefined {
    return this.#bytes[this.#at];
  }

  /** The next value, of whatever tag. */
  any(): DerValue {
    const start = this.#at;
    const tag = this.#byte();
    if ((tag & 0x1f) === 0x1f) throw new DerError("a tag of more than one byte");
    const length = this.#length();
    const from = this.#at;
    if (length > this.#bytes.length - from) throw new DerError("it ends too early");
    this.#at = from + length;
    return { tag, content: this.#bytes.subarray(from, this.#at), whole: this.#bytes.subarray(start, this.#at) };
  }

  /** The next value, which must have this tag. */
  expect(tag: number): DerValue {
    const value = this.any();
    if (value.tag !== tag) throw new DerError(`tag ${value.tag} where ${tag} was expected`);
    return value;
  }

  /** What is inside the next value, which must have this tag. */
  enter(tag: number): DerReader {
    return new DerReader(this.expect(tag).content);
  }

  end(): void {
    if (!this.done) throw new DerError("there is more than there should be");
  }

  #byte(): number {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) throw new DerError("it ends too early");
    this.#at += 1;
    return byte;
  }

  #length(): number {
    const first = this.#byte();
    if (first < 0x80) return first;
    const count = first & 0x7f;
    if (count === 0 || count > 4) throw new DerError("a length that DER does not have");
    let length = 0;
    for (let n = 0; n < count; n += 1) length = length * 256 + this.#byte();
    if (length < 0x80 || length < 256 ** (count - 1)) throw new DerError("a length that is longer than need be");
    return length;
  }
}

/** A non-negative INTEGER in its shortest form, as upper-case hex of whole bytes. */
export function unsignedHex({ content }: DerValue): string {
  const [first, second] = content;
  if (first === undefined) throw new DerError("an integer of no bytes");
  if (first >= 0x80) throw new DerError("a negative integer");
  if (first === 0 && second !== undefined && second < 0x80) throw new DerError("an integer that is longer than need be");
  const digits = first === 0 && second !== undefined ? content.subarray(1) : content;
  return toHex(digits);
}

export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"))
    .join("")
    .toUpperCase();
}

/** UTCTime or GeneralizedTime, in the forms that RFC 5280 allows: seconds, and `Z`. Unix time in milliseconds. */
export function timeMs({ tag, content }: DerValue): number {
  const text = String.fromCharCode(...content);
  const utc = tag === DER_TAG.utcTime;
  if (!utc && tag !== DER_TAG.generalizedTime) throw new DerError("no time where one was expected");
  const parts = (utc ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/ : /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/).exec(text);
  if (parts === null) throw new DerError("a time that is written in another way");
  const [year = 0, month = 0, ...rest] = parts.slice(1).map(Number);
  const [day = 0, hour = 0, minute = 0, second = 0] = rest;
  const fullYear = utc ? (year < 50 ? 2_000 + year : 1_900 + year) : year;
  const ms = Date.UTC(fullYear, month - 1, day, hour, minute, second);
  const again = new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, "");
  if (again !== `${String(fullYear).padStart(4, "0")}${parts.slice(2).join("")}Z`)
    throw new DerError("a time that does not exist");
  return ms;
}
