import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { describe, test } from "node:test";
import fc from "fast-check";
import { nameBytes, readSigned, refusalIn, signedBytes, updateMessage, withSignature } from "../../models/dns-update.ts";
import { holds } from "../support/property.ts";

const label = fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,20}$/);
const name = fc.array(label, { minLength: 1, maxLength: 6 }).map((labels) => labels.join("."));
const octet = fc.integer({ min: 0, max: 255 });
const v4 = fc.tuple(octet, octet, octet, octet).map((octets) => octets.join("."));
const KEY = "a key";
const mac = (bytes: Uint8Array) => createHmac("sha256", KEY).update(bytes).digest();

test("an update as RFC 2136 has it: remove with class NONE, add with class IN", () => {
  const update = { id: 0x1234, zone: "x.y", name: "n.x.y", ttlS: 60, add: [{ type: "AAAA" as const, address: "2001:db8::1" }] };
  const bytes = updateMessage({ ...update, remove: [{ type: "A", address: "192.0.2.1" }] });
  const expected = [
    "1234 2800 0001 0000 0002 0000",
    "01 78 01 79 00 0006 0001",
    "01 6e 01 78 01 79 00 0001 00fe 00000000 0004 c0000201",
    "01 6e 01 78 01 79 00 001c 0001 0000003c 0010 20010db8000000000000000000000001",
  ]
    .join("")
    .replaceAll(" ", "");
  assert.equal(Buffer.from(bytes).toString("hex"), expected);
});

describe("a signature", () => {
  test("is read back as it was made, and its MAC is that of the message before it", (t) => {
    const update = fc.record({
      id: fc.integer({ min: 0, max: 65_535 }),
      zone: name,
      name,
      ttlS: fc.integer({ min: 0, max: 86_400 }),
    });
    const at = fc.integer({ min: 0, max: 2 ** 40 });
    holds(
      t,
      fc.property(update, fc.array(v4, { maxLength: 4 }), name, at, (fields, addresses, keyName, signedAtS) => {
        const records = addresses.map((address) => ({ type: "A" as const, address }));
        const message = updateMessage({ ...fields, add: records, remove: records });
        const signature = { keyName, algorithm: "hmac-sha256", signedAtS, fudgeS: 300, error: 0 };
        const signed = readSigned(withSignature(message, signature, mac(signedBytes(message, signature))));
        assert.ok(signed !== undefined);
        assert.deepEqual(signed.signature, signature);
        assert.deepEqual([...signed.message], [...message]);
        assert.deepEqual([...signed.mac], [...mac(signedBytes(signed.message, signed.signature))]);
      }),
      200,
    );
  });

  test("is not found in what has none, is cut short, or is anything", (t) => {
    const message = updateMessage({ id: 1, zone: "x", name: "x", ttlS: 1, add: [], remove: [] });
    assert.equal(readSigned(message), undefined);
    holds(
      t,
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => void readSigned(bytes)),
      500,
    );
  });
});

test("a name that is none is refused", () => {
  assert.throws(() => nameBytes("a".repeat(64)), RangeError);
  assert.throws(() => nameBytes(Array.from({ length: 130 }, () => "a").join(".")), RangeError);
  assert.deepEqual(nameBytes("A.b."), [1, 97, 1, 98, 0]);
});

test("what the server made of it is said in words", () => {
  const answer = (code: number) => Uint8Array.from([0, 1, 0xa8, code, ...new Uint8Array(8)]);
  assert.equal(refusalIn(answer(0)), undefined);
  assert.match(refusalIn(answer(5)) ?? "", /REFUSED/);
  assert.match(refusalIn(new Uint8Array(0)) ?? "", /SERVFAIL/);
});
