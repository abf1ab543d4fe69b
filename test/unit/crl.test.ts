// Revocation lists: read as they were written or not at all, whatever is done to them on the way; never replaced by older ones.
import assert from "node:assert/strict";
import { verify } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { type Crl, type HeldCrl, parseCrl, type StandingOptions, standing, supersedes } from "../../models/crl.ts";
import { ForeshiftError } from "../../models/errors.ts";
import { IDENTITY_LIMITS } from "../../models/limits-identity.ts";
import { type CrlContent, der, ISSUER, makeCrl, makeKey, seq } from "../support/authority.ts";
import { holds } from "../support/property.ts";

const RUNS = 300;
const { privateKey, publicKey } = makeKey();

const serial = fc
  .uint8Array({ minLength: 1, maxLength: 20 })
  .filter((bytes) => bytes[0] !== 0)
  .map((bytes) => Buffer.from(bytes).toString("hex").toUpperCase());
const second = fc.integer({ min: 1_000_000_000, max: 4_000_000_000 });
const content: fc.Arbitrary<CrlContent> = fc.record({
  number: fc.bigInt({ min: 0n, max: 2n ** 64n }),
  thisUpdateMs: second.map((s) => s * 1_000),
  nextUpdateMs: fc.integer({ min: 4_000_000_001, max: 8_000_000_000 }).map((s) => s * 1_000),
  serials: fc.uniqueArray(serial, { maxLength: 40 }),
});

const plain: CrlContent = {
  number: 7n,
  thisUpdateMs: 1_700_000_000_000,
  nextUpdateMs: 1_800_000_000_000,
  serials: ["0A0B", "FF01"],
};

function isGenuine(crl: Crl): boolean {
  return verify("sha256", crl.signed.content, publicKey, crl.signed.signature);
}

/** Undefined when it is refused, in whichever way; anything but a refusal is a defect. */
function believed(bytes: Uint8Array): Crl | undefined {
  try {
    const crl = parseCrl(bytes);
    return isGenuine(crl) ? crl : undefined;
  } catch (thrown) {
    assert.ok(thrown instanceof ForeshiftError && thrown.code === "CRL_REFUSED", String(thrown));
    return undefined;
  }
}

test("a list is read as it was written", (context) => {
  holds(
    context,
    fc.property(content, (written) => {
      const crl = parseCrl(makeCrl(privateKey, written));
      assert.ok(isGenuine(crl));
      assert.deepEqual(
        [crl.number, crl.thisUpdateMs, crl.nextUpdateMs, [...crl.revoked], crl.issuer],
        [
          written.number,
          written.thisUpdateMs,
          written.nextUpdateMs,
          [...written.serials],
          ISSUER.toString("hex").toUpperCase(),
        ],
      );
    }),
    RUNS,
  );
});

test("with any bit flipped it is refused", (context) => {
  holds(
    context,
    fc.property(content, fc.nat(), (written, at) => {
      const bytes = makeCrl(privateKey, written);
      const bit = at % (bytes.length * 8);
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.equal(believed(bytes), undefined, `bit ${bit} of ${bytes.toString("hex")}`);
    }),
    RUNS * 4,
  );
});

test("cut short, continued, or with bytes put in, it is refused", (context) => {
  holds(
    context,
    fc.property(content, fc.nat(), fc.uint8Array({ minLength: 1, maxLength: 8 }), (written, at, more) => {
      const bytes = makeCrl(privateKey, written);
      assert.equal(believed(bytes.subarray(0, at % bytes.length)), undefined);
      assert.equal(believed(Buffer.concat([bytes, more])), undefined);
      const place = at % bytes.length;
      assert.equal(believed(Buffer.concat([bytes.subarray(0, place), more, bytes.subarray(place)])), undefined);
    }),
    RUNS,
  );
});

test("anything at all is a list or a refusal, and ends soon", (context) => {
  holds(
    context,
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      assert.equal(believed(bytes), undefined);
    }),
    RUNS,
  );
});

test("what DER writes in one way only is taken in that way only", () => {
  const good = makeCrl(privateKey, plain);
  assert.ok(believed(good));
  const critical = (oid: string) =>
    seq(Buffer.from(oid, "hex"), Buffer.from("0101ff", "hex"), der(0x04, Buffer.from("0500", "hex")));
  // 2.5.29.27, a delta list, must be understood; 2.5.29.35, the authority's key, need not be.
  assert.throws(() => parseCrl(makeCrl(privateKey, { ...plain, extension: critical("0603551d1b") })), /critical extension/);
  const uncritical = seq(Buffer.from("0603551d23", "hex"), der(0x04, Buffer.from("0500", "hex")));
  assert.equal(parseCrl(makeCrl(privateKey, { ...plain, extension: uncritical })).number, 7n);
  const twice = seq(Buffer.from("0603551d14", "hex"), der(0x04, Buffer.from("020107", "hex")));
  assert.throws(() => parseCrl(makeCrl(privateKey, { ...plain, extension: twice })), /comes twice/);
  assert.throws(() => parseCrl(makeCrl(privateKey, { ...plain, serials: ["0A", "0A"] })), /named twice/);
  assert.throws(() => parseCrl(makeCrl(privateKey, { ...plain, serials: ["0001"] })), /longer than need be/);
  assert.throws(() => parseCrl(makeCrl(privateKey, { ...plain, nextUpdateMs: plain.thisUpdateMs })), /ends before it begins/);
  assert.throws(() => parseCrl(new Uint8Array(IDENTITY_LIMITS.crlBytesMax + 1)), /more than/);
});

test("of all lists that came, in whatever order, the one with the highest number is held", (context) => {
  holds(
    context,
    fc.property(fc.array(fc.bigInt({ min: 0n, max: 50n }), { minLength: 1 }), (numbers) => {
      let held: { number: bigint; issuer: string } | undefined;
      for (const number of numbers) {
        const next = { number, issuer: "A" };
        if (supersedes(held, next)) held = next;
      }
      const highest = numbers.reduce((one, other) => (one > other ? one : other));
      assert.equal(held?.number, highest);
    }),
    RUNS,
  );
});

test("a revoked certificate is never good; what else a list that is stale means is the policy's to say", (context) => {
  const options: fc.Arbitrary<StandingOptions> = fc.record({
    policy: fc.record({
      newConnections: fc.constantFrom("refuse" as const, "accept" as const),
      established: fc.constantFrom("keep" as const, "close" as const),
    }),
    confirmWithinMs: fc.option(fc.integer({ min: 1, max: 1_000 }), { nil: undefined }),
    established: fc.boolean(),
    nowMs: fc.integer({ min: 0, max: 10_000 }),
  });
  const crl = parseCrl(makeCrl(privateKey, plain));
  const held: fc.Arbitrary<HeldCrl | undefined> = fc.option(
    fc
      .record({ endMs: fc.integer({ min: 0, max: 10_000 }), confirmedAtMs: fc.integer({ min: 0, max: 10_000 }) })
      .map(({ endMs, confirmedAtMs }) => ({ crl: { ...crl, nextUpdateMs: endMs }, confirmedAtMs })),
    { nil: undefined },
  );
  holds(
    context,
    fc.property(held, options, (list, given) => {
      const good = standing("0C", list, given);
      const { policy, confirmWithinMs, established, nowMs } = given;
      const stale =
        list === undefined ||
        nowMs >= list.crl.nextUpdateMs ||
        (confirmWithinMs !== undefined && nowMs - list.confirmedAtMs > confirmWithinMs);
      const goesOn = established ? policy.established === "keep" : policy.newConnections === "accept";
      assert.equal(good.use, !stale || goesOn);
      assert.deepEqual(standing("FF01", list, given), list === undefined ? good : { use: false, why: "revoked" });
    }),
    RUNS,
  );
});
