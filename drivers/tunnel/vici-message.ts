/**
 * Messages of VICI, strongSwan's control protocol, as bytes (its plugin's README: src/libcharon/plugins/vici): sections of keys with
 * values, lists and sections.
 */
import { ForeshiftError } from "../../models/errors.ts";

export type ViciValue = string | readonly string[] | ViciSection;
export type ViciSection = ReadonlyMap<string, ViciValue>;

const SECTION_START = 1;
const SECTION_END = 2;
const KEY_VALUE = 3;
const LIST_START = 4;
const LIST_ITEM = 5;
const LIST_END = 6;
/** Nothing of strongSwan's nests deeper than four. */
const DEPTH_MAX = 16;
const NAME_BYTES_MAX = 255;
const VALUE_BYTES_MAX = 65_535;

/** INVALID_FIELD when a name or value is longer than VICI can say. */
export function encodeVici(section: ViciSection): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of section) {
    if (typeof value === "string") {
      parts.push(Buffer.of(KEY_VALUE), named(name), sized(value));
    } else if (value instanceof Map) {
      parts.push(Buffer.of(SECTION_START), named(name), encodeVici(value), Buffer.of(SECTION_END));
    } else {
      const items = [...(value as readonly string[])].flatMap((item) => [Buffer.of(LIST_ITEM), sized(item)]);
      parts.push(Buffer.of(LIST_START), named(name), ...items, Buffer.of(LIST_END));
    }
  }
  return Buffer.concat(parts);
}

/** INVALID_FIELD for bytes that are no message, or not a whole one. A name that comes twice in a section has its last value. */
export function decodeVici(bytes: Buffer): ViciSection {
  return readSection(new Reader(bytes), 0);
}

class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get ended(): boolean {
    return this.#at >= this.#bytes.length;
  }

  element(): number {
    return this.#take(1).readUInt8();
  }

  name(): string {
    return this.#take(this.#take(1).readUInt8()).toString();
  }

  value(): string {
    return this.#take(this.#take(2).readUInt16BE()).toString();
  }

  #take(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) throw refused("length", this.#bytes.length, "it ends inside an element");
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}

function readSection(reader: Reader, depth: number): ViciSection {
  if (depth > DEPTH_MAX) throw refused("sections", depth, "they nest too deeply");
  const section = new Map<string, ViciValue>();
  for (;;) {
    if (reader.ended) {
      if (depth === 0) return section;
      throw refused("section", depth, "it does not end");
    }
    const element = reader.element();
    if (element === SECTION_END && depth > 0) return section;
    if (element === KEY_VALUE) section.set(reader.name(), reader.value());
    else if (element === SECTION_START) section.set(reader.name(), readSection(reader, depth + 1));
    else if (element === LIST_START) section.set(reader.name(), readList(reader));
    else throw refused("element", element, "no such element may stand here");
  }
}

function readList(reader: Reader): readonly string[] {
  const items: string[] = [];
  for (;;) {
    const element = reader.element();
    if (element === LIST_END) return items;
    if (element !== LIST_ITEM) throw refused("element", element, "a list holds items alone");
    items.push(reader.value());
  }
}

function named(name: string): Buffer {
  const bytes = Buffer.from(name);
  if (bytes.length > NAME_BYTES_MAX) throw refused("name", bytes.length, `at most ${NAME_BYTES_MAX} bytes`);
  return Buffer.concat([Buffer.of(bytes.length), bytes]);
}

function sized(value: string): Buffer {
  const bytes = Buffer.from(value);
  if (bytes.length > VALUE_BYTES_MAX) throw refused("value", bytes.length, `at most ${VALUE_BYTES_MAX} bytes`);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function refused(field: string, value: number, detail: string): ForeshiftError {
  return new ForeshiftError("INVALID_FIELD", { field: `VICI message: ${field}`, value: String(value), detail });
}
