/**
 * Messages of dynamic DNS: an update of one name (RFC 2136), signed with a shared key (TSIG, RFC 8945). Bytes in, bytes out; the signature
 * itself is made by who has the key.
 */

export interface AddressRecord {
  readonly type: "A" | "AAAA";
  /** In the usual writing. */
  readonly address: string;
}

export interface NameUpdate {
  readonly id: number;
  readonly zone: string;
  readonly name: string;
  readonly ttlS: number;
  readonly add: readonly AddressRecord[];
  readonly remove: readonly AddressRecord[];
}

export interface Signature {
  readonly keyName: string;
  readonly algorithm: string;
  /** Unix seconds. */
  readonly signedAtS: number;
  /** How far the clocks may be apart. */
  readonly fudgeS: number;
  readonly error: number;
}

/** A message without its signature, and the signature that it carried. */
export interface SignedMessage {
  readonly message: Uint8Array;
  readonly signature: Signature;
  readonly mac: Uint8Array;
}

const TYPE = { A: 1, SOA: 6, AAAA: 28, TSIG: 250 } as const;
const CLASS = { IN: 1, NONE: 254, ANY: 255 } as const;
const UPDATE_FLAGS = 5 << 11;
const HEADER_BYTES = 12;
const LABEL_BYTES_MAX = 63;
const NAME_BYTES_MAX = 255;
const POINTER = 0xc0;

/** Of answers to an update, those that a person is told by name. */
const ANSWERS: Readonly<Record<number, string>> = {
  1: "FORMERR: it does not understand the update",
  2: "SERVFAIL: it failed",
  4: "NOTIMP: it takes no updates",
  5: "REFUSED: this key may not change this name",
  9: "NOTAUTH: it does not keep this zone, or does not know this key",
  10: "NOTZONE: the name is not in the zone",
};

export function updateMessage({ id, zone, name, ttlS, add, remove }: NameUpdate): Uint8Array {
  const records = [
    ...remove.map((record) => resourceRecord(name, TYPE[record.type], CLASS.NONE, 0, addressBytes(record))),
    ...add.map((record) => resourceRecord(name, TYPE[record.type], CLASS.IN, ttlS, addressBytes(record))),
  ];
  const header = [...u16(id), ...u16(UPDATE_FLAGS), ...u16(1), ...u16(0), ...u16(records.length), ...u16(0)];
  return Uint8Array.from([...header, ...nameBytes(zone), ...u16(TYPE.SOA), ...u16(CLASS.IN), ...records.flat()]);
}

/** What the MAC is made over; `before`: the MAC of the request that the message answers. */
export function signedBytes(message: Uint8Array, signature: Signature, before?: Uint8Array): Uint8Array {
  const { keyName, algorithm, signedAtS, fudgeS, error } = signature;
  const variables = [
    ...nameBytes(keyName),
    ...u16(CLASS.ANY),
    ...u32(0),
    ...nameBytes(algorithm),
    ...u48(signedAtS),
    ...u16(fudgeS),
    ...u16(error),
    ...u16(0),
  ];
  const prior = before === undefined ? [] : [...u16(before.length), ...before];
  return Uint8Array.from([...prior, ...message, ...variables]);
}

export function withSignature(message: Uint8Array, signature: Signature, mac: Uint8Array): Uint8Array {
  const { keyName, algorithm, signedAtS, fudgeS, error } = signature;
  const data = [
    ...nameBytes(algorithm),
    ...u48(signedAtS),
    ...u16(fudgeS),
    ...u16(mac.length),
    ...mac,
    ...message.slice(0, 2),
    ...u16(error),
    ...u16(0),
  ];
  const signed = [...message, ...resourceRecord(keyName, TYPE.TSIG, CLASS.ANY, 0, data)];
  const additional = (message[10] ?? 0) * 256 + (message[11] ?? 0) + 1;
  signed.splice(10, 2, ...u16(additional));
  return Uint8Array.from(signed);
}

/** The message and its signature taken apart; undefined where it has none, or is cut short. */
export function readSigned(bytes: Uint8Array): SignedMessage | undefined {
  try {
    return new Reader(bytes).signed();
  } catch (thrown) {
    if (thrown instanceof RangeError) return undefined;
    throw thrown;
  }
}

/** What the server made of it: undefined when it was done, else a sentence. */
export function refusalIn(message: Uint8Array): string | undefined {
  const code = (message[3] ?? 2) & 0x0f;
  return code === 0 ? undefined : (ANSWERS[code] ?? `code ${code}`);
}

class Reader {
  readonly #bytes: Uint8Array;
  #at = HEADER_BYTES;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The signature is the last record of all. */
  signed(): SignedMessage | undefined {
    const [zones = 0, answers = 0, updates = 0, additional = 0] = [4, 6, 8, 10].map((at) => this.#number(at, 2));
    for (let left = zones; left > 0; left -= 1) {
      this.#name();
      this.#skip(4);
    }
    for (let left = answers + updates + additional - 1; left > 0; left -= 1) this.#record();
    if (additional === 0) return undefined;
    const start = this.#at;
    const keyName = this.#name();
    const type = this.#take(2);
    this.#skip(8);
    if (type !== TYPE.TSIG) return undefined;
    const algorithm = this.#name();
    const [signedAtS, fudgeS, macBytes] = [this.#take(6), this.#take(2), this.#take(2)];
    const mac = this.#slice(macBytes);
    const originalId = this.#slice(2);
    const error = this.#take(2);
    const message = Uint8Array.from(this.#bytes.slice(0, start));
    message.set(originalId, 0);
    message.set(u16(additional - 1), 10);
    return { message, signature: { keyName, algorithm, signedAtS, fudgeS, error }, mac };
  }

  #record(): void {
    this.#name();
    this.#skip(8);
    this.#skip(this.#take(2));
  }

  /** Names of a signature are never shortened; others may point backwards. */
  #name(): string {
    const labels: string[] = [];
    for (;;) {
      const length = this.#take(1);
      if (length === 0) return labels.join(".");
      if (length >= POINTER) {
        this.#skip(1);
        return labels.join(".");
      }
      labels.push(String.fromCharCode(...this.#slice(length)));
    }
  }

  #take(bytes: number): number {
    const value = this.#number(this.#at, bytes);
    this.#skip(bytes);
    return value;
  }

  #slice(bytes: number): Uint8Array {
    const from = this.#at;
    this.#skip(bytes);
    return this.#bytes.slice(from, this.#at);
  }

  #skip(bytes: number): void {
    this.#at += bytes;
    if (this.#at > this.#bytes.length) throw new RangeError("cut short");
  }

  #number(at: number, bytes: number): number {
    let value = 0;
    for (let index = at; index < at + bytes; index += 1) {
      const byte = this.#bytes[index];
      if (byte === undefined) throw new RangeError("cut short");
      value = value * 256 + byte;
    }
    return value;
  }
}

function resourceRecord(name: string, type: number, kind: number, ttlS: number, data: readonly number[]): number[] {
  return [...nameBytes(name), ...u16(type), ...u16(kind), ...u32(ttlS), ...u16(data.length), ...data];
}

/** In lower case, as signatures want it. RangeError for what is no name. */
export function nameBytes(name: string): number[] {
  const labels = name
    .toLowerCase()
    .split(".")
    .filter((label) => label !== "");
  const bytes = labels.flatMap((label) => {
    const codes = Array.from({ length: label.length }, (_, at) => label.charCodeAt(at));
    if (codes.length > LABEL_BYTES_MAX || codes.some((code) => code > 127))
      throw new RangeError(`${label} is no label of a name`);
    return [codes.length, ...codes];
  });
  if (bytes.length + 1 > NAME_BYTES_MAX) throw new RangeError(`${name} is too long`);
  return [...bytes, 0];
}

function addressBytes({ type, address }: AddressRecord): number[] {
  if (type === "A") return address.split(".").map(Number);
  const [head = "", tail] = address.split("::");
  const words = (text: string) =>
    text
      .split(":")
      .filter((word) => word !== "")
      .map((word) => Number.parseInt(word, 16));
  const [left, right] = [words(head), words(tail ?? "")];
  const middle = tail === undefined ? [] : Array.from({ length: 8 - left.length - right.length }, () => 0);
  return [...left, ...middle, ...right].flatMap(u16);
}

function u16(value: number): number[] {
  return [(value >>> 8) & 0xff, value & 0xff];
}

function u32(value: number): number[] {
  return [...u16(value >>> 16), ...u16(value & 0xffff)];
}

function u48(value: number): number[] {
  return [...u16(Math.floor(value / 2 ** 32)), ...u32(value >>> 0)];
}
