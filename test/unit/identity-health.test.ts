// What `foreshift doctor` makes of certificates, revocation lists and clocks.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { certificateFinding, clockFinding, crlFinding, duration } from "../../models/identity-health.ts";
import { holds } from "../support/property.ts";

const HOUR_MS = 3_600_000;

test("a certificate is well until its renewal is overdue, and of no use once it has ended", (context) => {
  const held = { issuedAtMs: 0, notAfterMs: 24 * HOUR_MS };
  assert.deepEqual(certificateFinding(held, HOUR_MS), { state: "ok", text: "its certificate lasts 23 h more" });
  assert.equal(certificateFinding(held, 16.5 * HOUR_MS).state, "ok", "between two attempts");
  const late = certificateFinding(held, 20 * HOUR_MS);
  assert.equal(late.state, "warning");
  assert.match(late.text, /lasts 4 h more and was due for renewal 4 h ago/);
  assert.match(certificateFinding(held, 25 * HOUR_MS).text, /ended 1 h ago/);
  const states = ["ok", "warning", "missing"];
  const property = fc.property(fc.nat(48 * HOUR_MS), fc.nat(48 * HOUR_MS), (one, other) => {
    const [early, later] = [Math.min(one, other), Math.max(one, other)].map((at) => certificateFinding(held, at));
    assert.ok(states.indexOf(early?.state ?? "") <= states.indexOf(later?.state ?? ""), "it never gets better with time");
    assert.ok((later?.state === "ok") === (later?.remedy === undefined));
  });
  holds(context, property, 500);
});

test("a revocation list that is not replaced is told of while it still counts", () => {
  const held = { thisUpdateMs: 0, nextUpdateMs: 72 * HOUR_MS, number: 7n };
  assert.deepEqual(crlFinding(held, HOUR_MS), { state: "ok", text: "revocation list 7 is 1 h old, good for 2 d more" });
  assert.equal(crlFinding(held, 40 * HOUR_MS).state, "warning");
  assert.match(crlFinding(held, 73 * HOUR_MS).text, /3 d old and has ended: new connections are refused/);
  assert.equal(crlFinding(undefined, 0).state, "missing");
});

test("a clock is doubted only as far as the measurement can tell", () => {
  assert.equal(clockFinding(2_400, 500).state, "ok");
  assert.match(clockFinding(-62_000, 500).text, /1 min or more behind Vault's/);
  assert.match(clockFinding(9_000, 500).text, /8 s or more ahead of Vault's/);
  assert.deepEqual([duration(999), duration(61_000), duration(90_000_000)], ["999 ms", "1 min", "1 d"]);
});
