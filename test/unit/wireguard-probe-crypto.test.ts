/** The prober's cryptography against published vectors and against a responder written from the same paper. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import {
  beginHandshake,
  blake2s,
  INITIATION_BYTES,
  keyPairOf,
  newKeyPair,
  open,
  rawPrivateKey,
  seal,
  tai64n,
} from "../../drivers/tunnel/wireguard-probe-crypto.ts";

test("BLAKE2s is the one of RFC 7693, keyed and not", () => {
  const abc = blake2s(Buffer.from("abc"), 32, Buffer.alloc(0)).toString("hex");
  assert.equal(abc, "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982");
  // blake2-kat.h of the reference implementation: key 00..1f, no input.
  const key = Buffer.from(Array.from({ length: 32 }, (_, at) => at));
  const keyed = blake2s(Buffer.alloc(0), 32, key).toString("hex");
  assert.equal(keyed, "48a8997da407876b3d79c0d92325ad3b89cbb754d86ab71aee047ad345fd2c49");
});

test("BLAKE2s without a key agrees with Node's for any input", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (input) => {
      const expected = createHash("blake2s256").update(input).digest();
      assert.ok(blake2s(Buffer.from(input), 32, Buffer.alloc(0)).equals(expected));
    }),
  );
});

test("a private key written down gives the same public key", () => {
  const pair = newKeyPair();
  assert.ok(keyPairOf(rawPrivateKey(pair.privateKey)).publicKey.equals(pair.publicKey));
});

test("what was sealed opens with the same counter, key and data only", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.bigInt({ min: 0n, max: 2n ** 63n }), (plain, counter) => {
      const key = randomBytes(32);
      const sealed = seal(key, counter, Buffer.from(plain), Buffer.alloc(0));
      assert.ok(open(key, counter, sealed, Buffer.alloc(0))?.equals(plain));
      assert.equal(open(key, counter + 1n, sealed, Buffer.alloc(0)), undefined);
      assert.equal(open(randomBytes(32), counter, sealed, Buffer.alloc(0)), undefined);
      assert.equal(open(key, counter, Buffer.alloc(3), Buffer.alloc(0)), undefined);
    }),
  );
});

test("an initiation has its fixed form, and no two are alike", () => {
  const own = newKeyPair();
  const responder = newKeyPair().publicKey;
  const [a, b] = [1, 2].map(() => beginHandshake(own, responder, 7, tai64n(1_700_000_000_000, 0)));
  assert.ok(a && b);
  assert.equal(a.message.length, INITIATION_BYTES);
  assert.equal(a.message.readUInt32LE(0), 1);
  assert.equal(a.message.readUInt32LE(4), 7);
  assert.ok(a.message.subarray(132).equals(Buffer.alloc(16)), "without a cookie the second MAC is zero");
  assert.ok(!a.message.subarray(8, 132).equals(b.message.subarray(8, 132)));
});

test("a response that is not for this handshake is refused", () => {
  const pending = beginHandshake(newKeyPair(), newKeyPair().publicKey, 7, tai64n(0, 0));
  const forged = randomBytes(92);
  forged.writeUInt32LE(2, 0);
  forged.writeUInt32LE(7, 8);
  assert.equal(pending.finish(forged), undefined);
  assert.equal(pending.finish(Buffer.alloc(92)), undefined);
  assert.equal(pending.finish(Buffer.alloc(10)), undefined);
});

test("time stamps grow with time and with the number within it", () => {
  fc.assert(
    fc.property(fc.nat({ max: 2 ** 31 }), fc.nat({ max: 10_000 }), fc.nat({ max: 900_000 }), (seconds, ms, extra) => {
      const now = seconds * 1_000 + ms;
      assert.ok(Buffer.compare(tai64n(now, extra), tai64n(now, extra + 1)) < 0);
      assert.ok(Buffer.compare(tai64n(now, extra), tai64n(now + 1, 0)) < 0);
    }),
  );
});
