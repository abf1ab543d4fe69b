/**
 * The cryptography of a WireGuard initiator: BLAKE2s, the HKDF of Noise and the handshake Noise_IKpsk2, after Donenfeld, "WireGuard:
 * Next Generation Kernel Network Tunnel", section 5.4. Only what a probe needs; the preshared key is always zero.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
} from "node:crypto";

const CONSTRUCTION = Buffer.from("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s");
const IDENTIFIER = Buffer.from("WireGuard v1 zx2c4 Jason@zx2c4.com");
const MAC1_LABEL = Buffer.from("mac1----");
const COOKIE_LABEL = Buffer.from("cookie--");
const KEY_BYTES = 32;
const TAG_BYTES = 16;
const MAC_BYTES = 16;
export const INITIATION_BYTES = 148;
export const RESPONSE_BYTES = 92;
export const COOKIE_REPLY_BYTES = 64;

export interface KeyPair {
  readonly privateKey: KeyObject;
  /** 32 raw bytes. */
  readonly publicKey: Buffer;
}

const PRIVATE_DER_HEAD = Buffer.from("302e020100300506032b656e04220420", "hex");
const PUBLIC_DER_HEAD = Buffer.from("302a300506032b656e032100", "hex");

/** From 32 raw bytes. */
export function keyPairOf(privateKey: Buffer): KeyPair {
  const key = createPrivateKey({ key: Buffer.concat([PRIVATE_DER_HEAD, privateKey]), format: "der", type: "pkcs8" });
  return { privateKey: key, publicKey: rawPublicKey(createPublicKey(key)) };
}

export function newKeyPair(): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync("x25519");
  return { privateKey, publicKey: rawPublicKey(publicKey) };
}

/** The 32 raw bytes of a private key, for keeping it in a file. */
export function rawPrivateKey(key: KeyObject): Buffer {
  return key.export({ format: "der", type: "pkcs8" }).subarray(-KEY_BYTES);
}

function rawPublicKey(key: KeyObject): Buffer {
  return key.export({ format: "der", type: "spki" }).subarray(-KEY_BYTES);
}

export function publicKeyOf(raw: Buffer): KeyObject {
  return createPublicKey({ key: Buffer.concat([PUBLIC_DER_HEAD, raw]), format: "der", type: "spki" });
}

function dh(privateKey: KeyObject, publicKey: KeyObject): Buffer {
  return diffieHellman({ privateKey, publicKey });
}

export function hash(...parts: readonly Buffer[]): Buffer {
  const state = createHash("blake2s256");
  for (const part of parts) state.update(part);
  return state.digest();
}

function hmac(key: Buffer, ...parts: readonly Buffer[]): Buffer {
  const state = createHmac("blake2s256", key);
  for (const part of parts) state.update(part);
  return state.digest();
}

/** KDF_n of the paper: `count` keys of 32 bytes. */
export function kdf(chainingKey: Buffer, input: Buffer, count: number): Buffer[] {
  const secret = hmac(chainingKey, input);
  const keys: Buffer[] = [];
  for (let n = 1; n <= count; n += 1) keys.push(hmac(secret, keys.at(-1) ?? Buffer.alloc(0), Buffer.from([n])));
  return keys;
}

function nonceOf(counter: bigint): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64LE(counter, 4);
  return nonce;
}

export function seal(key: Buffer, counter: bigint, plain: Buffer, associated: Buffer): Buffer {
  const cipher = createCipheriv("chacha20-poly1305", key, nonceOf(counter), { authTagLength: TAG_BYTES });
  cipher.setAAD(associated, { plaintextLength: plain.length });
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** Undefined when the tag is wrong. */
export function open(key: Buffer, counter: bigint, sealed: Buffer, associated: Buffer): Buffer | undefined {
  return openWithNonce(key, nonceOf(counter), sealed, associated);
}

function openWithNonce(key: Buffer, nonce: Buffer, sealed: Buffer, associated: Buffer): Buffer | undefined {
  if (sealed.length < TAG_BYTES) return undefined;
  const decipher = createDecipheriv("chacha20-poly1305", key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(associated, { plaintextLength: sealed.length - TAG_BYTES });
  decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
  const plain = decipher.update(sealed.subarray(0, -TAG_BYTES));
  try {
    return Buffer.concat([plain, decipher.final()]);
  } catch {
    return undefined;
  }
}

/** Both directions of one session, and the indices that name it at either end. */
export interface SessionKeys {
  readonly sendKey: Buffer;
  readonly receiveKey: Buffer;
  readonly localIndex: number;
  readonly remoteIndex: number;
}

/** What a handshake that was begun needs to be ended. */
export interface PendingHandshake {
  readonly message: Buffer;
  readonly localIndex: number;
  finish(response: Buffer): SessionKeys | undefined;
}

/** A first message to `responder`. `timestamp` is TAI64N and must be above all earlier ones of this key. */
export function beginHandshake(
  own: KeyPair,
  responder: Buffer,
  localIndex: number,
  timestamp: Buffer,
  cookie?: Buffer,
): PendingHandshake {
  const responderKey = publicKeyOf(responder);
  const ephemeral = newKeyPair();
  const message = Buffer.alloc(INITIATION_BYTES);
  message.writeUInt32LE(1, 0);
  message.writeUInt32LE(localIndex, 4);

  let chain = hash(CONSTRUCTION);
  let transcript = hash(hash(chain, IDENTIFIER), responder);
  const mixHash = (data: Buffer) => {
    transcript = hash(transcript, data);
  };
  const mixKey = (input: Buffer): Buffer => {
    const [next = chain, key = chain] = kdf(chain, input, 2);
    chain = next;
    return key;
  };

  ephemeral.publicKey.copy(message, 8);
  [chain = chain] = kdf(chain, ephemeral.publicKey, 1);
  mixHash(ephemeral.publicKey);
  const sealedStatic = seal(mixKey(dh(ephemeral.privateKey, responderKey)), 0n, own.publicKey, transcript);
  sealedStatic.copy(message, 40);
  mixHash(sealedStatic);
  const sealedTime = seal(mixKey(dh(own.privateKey, responderKey)), 0n, timestamp, transcript);
  sealedTime.copy(message, 88);
  mixHash(sealedTime);
  blake2s(message.subarray(0, 116), MAC_BYTES, hash(MAC1_LABEL, responder)).copy(message, 116);
  if (cookie !== undefined) blake2s(message.subarray(0, 132), MAC_BYTES, cookie).copy(message, 132);

  const finish = (response: Buffer) => finishHandshake(response, { own, ephemeral, chain, transcript, localIndex });
  return { message, localIndex, finish };
}

interface Begun {
  readonly own: KeyPair;
  readonly ephemeral: KeyPair;
  readonly chain: Buffer;
  readonly transcript: Buffer;
  readonly localIndex: number;
}

function finishHandshake(response: Buffer, begun: Begun): SessionKeys | undefined {
  if (response.length !== RESPONSE_BYTES || response.readUInt32LE(0) !== 2 || response.readUInt32LE(8) !== begun.localIndex)
    return undefined;
  const remote = response.subarray(12, 44);
  const remoteKey = publicKeyOf(remote);
  let chain = begun.chain;
  for (const input of [remote, dh(begun.ephemeral.privateKey, remoteKey), dh(begun.own.privateKey, remoteKey)]) {
    [chain = chain] = kdf(chain, input, 1);
  }
  const [next, mixed, key] = kdf(chain, Buffer.alloc(KEY_BYTES), 3);
  if (next === undefined || mixed === undefined || key === undefined) return undefined;
  const transcript = hash(hash(begun.transcript, remote), mixed);
  if (open(key, 0n, response.subarray(44, 60), transcript) === undefined) return undefined;
  const [sendKey, receiveKey] = kdf(next, Buffer.alloc(0), 2);
  if (sendKey === undefined || receiveKey === undefined) return undefined;
  return { sendKey, receiveKey, localIndex: begun.localIndex, remoteIndex: response.readUInt32LE(4) };
}

/** The cookie a responder under load answers with (section 5.4.7); `mac1` is that of the message it answers. */
export function openCookie(reply: Buffer, responder: Buffer, mac1: Buffer): Buffer | undefined {
  if (reply.length !== COOKIE_REPLY_BYTES || reply.readUInt32LE(0) !== 3) return undefined;
  const nonce = reply.subarray(8, 32);
  const key = hchacha20(hash(COOKIE_LABEL, responder), nonce.subarray(0, 16));
  return openWithNonce(key, Buffer.concat([Buffer.alloc(4), nonce.subarray(16)]), reply.subarray(32), mac1);
}

export function mac1Of(initiation: Buffer): Buffer {
  return initiation.subarray(116, 132);
}

/** Seconds since 1970 TAI, offset by 2^62, and nanoseconds: 12 bytes. */
export function tai64n(unixMs: number, extraNs: number): Buffer {
  const stamp = Buffer.alloc(12);
  const seconds = Math.floor(unixMs / 1000);
  stamp.writeBigUInt64BE(0x400000000000000an + BigInt(seconds), 0);
  stamp.writeUInt32BE(Math.floor((unixMs - seconds * 1000) * 1e6) + extraNs, 8);
  return stamp;
}

const BLAKE2S_IV = Uint32Array.of(
  0x6a09e667,
  0xbb67ae85,
  0x3c6ef372,
  0xa54ff53a,
  0x510e527f,
  0x9b05688c,
  0x1f83d9ab,
  0x5be0cd19,
);
/** Message schedule, ten rounds of sixteen words, one hexadecimal digit each (RFC 7693, section 2.7). */
const BLAKE2S_SIGMA = [
  "0123456789abcdef",
  "ea489fd61c02b753",
  "b8c052fdae367194",
  "7931dcbe265a40f8",
  "905724afe1bc683d",
  "2c6a0b834d75fe19",
  "c51fed4a0763928b",
  "db7ec13950f4862a",
  "6fe9b308c2d714a5",
  "a2847615fb9e3cd0",
].map((row) => Array.from(row, (digit) => Number.parseInt(digit, 16)));

/** BLAKE2s with a key and a chosen length of output (RFC 7693); Node's own has neither. */
export function blake2s(input: Buffer, outputBytes: number, key: Buffer): Buffer {
  const state = Uint32Array.from(BLAKE2S_IV);
  state[0] = (state[0] ?? 0) ^ (0x01010000 | (key.length << 8) | outputBytes);
  const keyBlock = Buffer.alloc(key.length > 0 ? 64 : 0);
  key.copy(keyBlock);
  const data = Buffer.concat([keyBlock, input]);
  const blocks = Math.max(1, Math.ceil(data.length / 64));
  const block = Buffer.alloc(64);
  for (let n = 0; n < blocks; n += 1) {
    block.fill(0);
    data.copy(block, 0, n * 64);
    const last = n === blocks - 1;
    compress(state, block, last ? data.length : (n + 1) * 64, last);
  }
  const output = Buffer.alloc(32);
  state.forEach((word, at) => output.writeUInt32LE(word >>> 0, at * 4));
  return output.subarray(0, outputBytes);
}

function compress(state: Uint32Array, block: Buffer, count: number, last: boolean): void {
  const v = new Uint32Array(16);
  v.set(state, 0);
  v.set(BLAKE2S_IV, 8);
  v[12] = (v[12] ?? 0) ^ count;
  if (last) v[14] = ~(v[14] ?? 0);
  const mix = (a: number, b: number, c: number, d: number, x: number, y: number) => {
    v[a] = (v[a] ?? 0) + (v[b] ?? 0) + x;
    v[d] = rotateRight((v[d] ?? 0) ^ (v[a] ?? 0), 16);
    v[c] = (v[c] ?? 0) + (v[d] ?? 0);
    v[b] = rotateRight((v[b] ?? 0) ^ (v[c] ?? 0), 12);
    v[a] = (v[a] ?? 0) + (v[b] ?? 0) + y;
    v[d] = rotateRight((v[d] ?? 0) ^ (v[a] ?? 0), 8);
    v[c] = (v[c] ?? 0) + (v[d] ?? 0);
    v[b] = rotateRight((v[b] ?? 0) ^ (v[c] ?? 0), 7);
  };
  for (const order of BLAKE2S_SIGMA) {
    const word = (at: number) => block.readUInt32LE((order[at] ?? 0) * 4);
    for (let n = 0; n < 4; n += 1) mix(n, 4 + n, 8 + n, 12 + n, word(2 * n), word(2 * n + 1));
    for (let n = 0; n < 4; n += 1)
      mix(n, 4 + ((n + 1) % 4), 8 + ((n + 2) % 4), 12 + ((n + 3) % 4), word(8 + 2 * n), word(9 + 2 * n));
  }
  for (let n = 0; n < 8; n += 1) state[n] = (state[n] ?? 0) ^ (v[n] ?? 0) ^ (v[n + 8] ?? 0);
}

/** The key of XChaCha20 (draft-irtf-cfrg-xchacha, section 2.2). */
function hchacha20(key: Buffer, nonce: Buffer): Buffer {
  const words = new Uint32Array(16);
  words.set([0x61707865, 0x3320646e, 0x79622d32, 0x6b206574]);
  for (let n = 0; n < 8; n += 1) words[4 + n] = key.readUInt32LE(n * 4);
  for (let n = 0; n < 4; n += 1) words[12 + n] = nonce.readUInt32LE(n * 4);
  const step = (a: number, b: number, d: number, bits: number) => {
    words[a] = (words[a] ?? 0) + (words[b] ?? 0);
    words[d] = rotateRight((words[d] ?? 0) ^ (words[a] ?? 0), 32 - bits);
  };
  const quarter = (a: number, b: number, c: number, d: number) => {
    step(a, b, d, 16);
    step(c, d, b, 12);
    step(a, b, d, 8);
    step(c, d, b, 7);
  };
  for (let round = 0; round < 10; round += 1) {
    for (let n = 0; n < 4; n += 1) quarter(n, 4 + n, 8 + n, 12 + n);
    for (let n = 0; n < 4; n += 1) quarter(n, 4 + ((n + 1) % 4), 8 + ((n + 2) % 4), 12 + ((n + 3) % 4));
  }
  const output = Buffer.alloc(KEY_BYTES);
  for (let n = 0; n < 4; n += 1) {
    output.writeUInt32LE(words[n] ?? 0, n * 4);
    output.writeUInt32LE(words[12 + n] ?? 0, 16 + n * 4);
  }
  return output;
}

function rotateRight(word: number, bits: number): number {
  return (word >>> bits) | (word << (32 - bits));
}
