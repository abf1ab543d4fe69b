/** The search for secrets that leaked: each form of each secret, at any place, and nothing where there is none. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LeakScan } from "../support/leak-scan.ts";
import { holds } from "../support/property.ts";

const bytes = (minLength: number, maxLength: number) => fc.uint8Array({ minLength, maxLength }).map((all) => Buffer.from(all));
const written = fc.constantFrom<BufferEncoding | undefined>(undefined, "hex", "base64", "base64url");

test("a secret is found whole, in hexadecimal and inside a longer text of base64, wherever it lies", (context) => {
  const keys = fc.tuple(bytes(16, 40), bytes(16, 40));
  const property = fc.property(keys, written, bytes(0, 50), bytes(0, 50), fc.nat(2), (both, form, before, after, shift) => {
    const scan = new LeakScan(both.map((value, at) => ({ name: `key ${at}`, value })));
    const longer = Buffer.concat([Buffer.alloc(shift, 7), both[1], Buffer.from("end")]);
    const text = form === undefined ? both[1] : Buffer.from((form === "hex" ? both[1] : longer).toString(form));
    const found = scan.within("here", Buffer.concat([before, text, after]));
    assert.ok(
      found.some(({ secret, place }) => secret === "key 1" && place === "here"),
      form ?? "as it is",
    );
  });
  holds(context, property, 500);
});

test("what only looks like a secret for a while is none", (context) => {
  // Of two values, so that beginnings are everywhere.
  const few = (minLength: number, maxLength: number) =>
    fc.array(fc.constantFrom(0, 1), { minLength, maxLength }).map((all) => Buffer.from(all));
  const property = fc.property(few(12, 14), few(0, 400), (key, text) => {
    const scan = new LeakScan([{ name: "key", value: key }]);
    assert.equal(scan.within("here", text).length, text.includes(key) ? 1 : 0);
    assert.equal(scan.within("here", Buffer.concat([text, key, text])).length, 1);
  });
  holds(context, property, 500);
});

test("a secret that chance would find is refused", () => {
  assert.throws(() => new LeakScan([{ name: "short", value: "0123456789" }]), /short is too short/);
});
