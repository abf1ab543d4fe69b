/**
 * One payload of Temporal sealed with a data key: AES-256-GCM over the whole payload, metadata included; the key, wrapped by Vault's
 * transit engine, travels beside it. Everything around the ciphertext is authenticated with it, so nothing can be exchanged or cut.
 */
import { createCipheriv, createDecipheriv, createHmac, randomBytes } from "node:crypto";
import type { Payload } from "@temporalio/common";
import { ForeshiftError } from "../../models/errors.ts";

/** Where a data key comes from: what is public of it. */
export interface WrappedKey {
  /** Made of the key itself (`keyId`), so that a wrong key is recognised before anything is opened with it. */
  readonly id: string;
  /** As transit wrote it: `vault:v3:…`. */
  readonly wrapped: string;
}

/** An envelope that is well-formed; whether it is genuine, opening it says. */
export interface Envelope extends WrappedKey {
  /** The workflow that it is said to or by (`ownerOf`); undefined: it was sealed for no one in particular. */
  readonly owner: string | undefined;
  readonly payload: Payload;
}

type Metadata = Readonly<Record<string, Uint8Array>>;

/** The name Temporal's own tools and samples use for sealed payloads. */
const ENCODING = "binary/encrypted";
const CIPHER = "aes-256-gcm";
/** Of this envelope's layout, by what it must have; another one gets another word. The first one names no workflow. */
const FIELDS_OF: Readonly<Record<string, readonly string[]>> = {
  "foreshift/1": ["encoding", "cipher", "format", "key-id", "wrapped-key"],
  "foreshift/2": ["encoding", "cipher", "format", "key-id", "wrapped-key", "owner"],
};
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const ID_BYTES = 16;
const LENGTH_BYTES = 4;
const WRAPPED = /^vault:v[1-9]\d{0,8}:[A-Za-z0-9+/]{16,1024}={0,2}$/;
const KEY_ID = /^[0-9a-f]{32}$/;

/** The transit key's version that a wrapped key names. */
export function wrapVersion(wrapped: string): number {
  if (!WRAPPED.test(wrapped)) throw refused("its wrapped key is not one of transit's");
  return Number(wrapped.slice("vault:v".length, wrapped.indexOf(":", "vault:v".length)));
}

/** Public, and of no use to find the key: an HMAC-SHA-256 keyed with it, in hexadecimal. */
export function keyId(key: Uint8Array): string {
  return createHmac("sha256", key).update("foreshift data key").digest().subarray(0, ID_BYTES).toString("hex");
}

/** Whether a payload says that it is sealed, by us or by anybody. */
export function isSealed(payload: Payload): boolean {
  return textOf(payload.metadata ?? {}, "encoding") === ENCODING;
}

/** Random nonces: a data key is given up long before two of them may meet (CODEC_LIMITS.dataKeyUsesMax). */
export function seal(payload: Payload, key: Uint8Array, { id, wrapped }: WrappedKey, owner?: string): Payload {
  const common = { encoding: ENCODING, cipher: CIPHER, "key-id": id, "wrapped-key": wrapped };
  const stated = owner === undefined ? { ...common, format: "foreshift/1" } : { ...common, format: "foreshift/2", owner };
  const metadata = Object.fromEntries(Object.entries(stated).map(([name, value]) => [name, Buffer.from(value)]));
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(authenticated(metadata));
  const sealed = Buffer.concat([nonce, cipher.update(toBytes(payload)), cipher.final(), cipher.getAuthTag()]);
  return { metadata, data: sealed };
}

/** PAYLOAD_REFUSED for everything that `seal` cannot have made. */
export function parseEnvelope(payload: Payload): Envelope {
  const metadata: Metadata = payload.metadata ?? {};
  if (!isSealed(payload)) throw refused("it is not sealed");
  const names = Object.keys(metadata);
  const fields = fieldsOf(metadata);
  if (fields === undefined) throw refused("its format is unknown; a newer Foreshift may have written it");
  if (names.length !== fields.length || !fields.every((name) => names.includes(name))) {
    throw refused(`its metadata is ${names.sort().join(", ")}; expected ${fields.join(", ")}`);
  }
  if (textOf(metadata, "cipher") !== CIPHER) throw refused("its cipher is unknown");
  const id = textOf(metadata, "key-id");
  const wrapped = textOf(metadata, "wrapped-key");
  if (!KEY_ID.test(id)) throw refused("its key's id is malformed");
  wrapVersion(wrapped);
  if ((payload.data?.byteLength ?? 0) < NONCE_BYTES + TAG_BYTES + LENGTH_BYTES) throw refused("it is cut short");
  return { id, wrapped, payload, owner: fields.includes("owner") ? textOf(metadata, "owner") : undefined };
}

/**
 * Whom a payload of this workflow belongs to. A Schedule's runs have its id and their time: what one leaves to the next, and what the
 * Schedule gives to each, is of them all.
 */
export function ownerOf({ namespace, workflowId }: { readonly namespace: string; readonly workflowId: string }): string {
  return `${namespace}/${workflowId.replace(/-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, "")}`;
}

/** The payload as it was; PAYLOAD_REFUSED when anything of it, or the key, is not what it was sealed with. */
export function open({ payload }: Envelope, key: Uint8Array): Payload {
  const data = Buffer.from(payload.data ?? []);
  const decipher = createDecipheriv(CIPHER, key, data.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
  decipher.setAAD(authenticated(payload.metadata ?? {}));
  decipher.setAuthTag(data.subarray(data.byteLength - TAG_BYTES));
  const body = decipher.update(data.subarray(NONCE_BYTES, data.byteLength - TAG_BYTES));
  try {
    return fromBytes(Buffer.concat([body, decipher.final()]));
  } catch {
    throw refused("it was changed, or sealed with another key");
  }
}

function fieldsOf(metadata: Metadata): readonly string[] | undefined {
  const format = textOf(metadata, "format");
  return Object.hasOwn(FIELDS_OF, format) ? FIELDS_OF[format] : undefined;
}

/** Each value with its length, in the order of the format's fields: no two metadata have the same bytes. */
function authenticated(metadata: Metadata): Buffer {
  return Buffer.concat((fieldsOf(metadata) ?? []).flatMap((name) => withLength(Buffer.from(metadata[name] ?? []))));
}

/** Length of the metadata, the metadata as JSON with values in base64, the data. */
function toBytes({ metadata, data }: Payload): Buffer {
  const written = Object.entries(metadata ?? {}).map(([name, value]) => [name, Buffer.from(value).toString("base64")]);
  return Buffer.concat([...withLength(Buffer.from(JSON.stringify(Object.fromEntries(written)))), Buffer.from(data ?? [])]);
}

function fromBytes(bytes: Buffer): Payload {
  const end = LENGTH_BYTES + bytes.readUInt32BE(0);
  const written = JSON.parse(bytes.subarray(LENGTH_BYTES, end).toString("utf8")) as Record<string, string>;
  const metadata = Object.fromEntries(Object.entries(written).map(([name, value]) => [name, Buffer.from(value, "base64")]));
  return { metadata, data: bytes.subarray(end) };
}

function withLength(bytes: Buffer): [Buffer, Buffer] {
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32BE(bytes.byteLength);
  return [length, bytes];
}

function textOf(metadata: Metadata, name: string): string {
  return Buffer.from(metadata[name] ?? []).toString("utf8");
}

function refused(detail: string): ForeshiftError {
  return new ForeshiftError("PAYLOAD_REFUSED", { detail });
}
