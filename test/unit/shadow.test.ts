// Shadows: one answer for each session, never the holder, spread evenly, and little change when an endpoint comes or goes.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { NO_RISK, type ScoredEndpoint } from "../../models/risk.ts";
import { safeShadows, shadowOf } from "../../models/shadow.ts";
import { ForesightPolicy } from "../../models/swarm-spec.ts";

const endpoints = fc.uniqueArray(fc.stringMatching(/^ep-[0-9]{1,3}$/), { minLength: 2, maxLength: 12 });
const key = fc.base64String({ minLength: 44, maxLength: 44 });

test("the shadow is another endpoint, whatever their order", () => {
  fc.assert(
    fc.property(key, endpoints, (publicKey, names) => {
      const holder = names[0] ?? "";
      const shadow = shadowOf(publicKey, holder, names);
      assert.ok(shadow !== undefined && shadow !== holder && names.includes(shadow));
      assert.equal(shadowOf(publicKey, holder, names.toReversed()), shadow);
    }),
  );
});

test("alone, an endpoint has no shadow", () => {
  assert.equal(shadowOf("key", "ep-1", ["ep-1"]), undefined);
  assert.equal(shadowOf("key", "ep-1", []), undefined);
});

test("an endpoint that goes changes only the sessions it shadowed", () => {
  fc.assert(
    fc.property(fc.array(key, { minLength: 1, maxLength: 30 }), endpoints, (keys, names) => {
      const [holder = "", gone] = names;
      const rest = names.filter((name) => name !== gone);
      for (const publicKey of keys) {
        const before = shadowOf(publicKey, holder, names);
        if (before !== gone) assert.equal(shadowOf(publicKey, holder, rest), before);
      }
    }),
  );
});

test("the sessions of one holder are spread over all others", () => {
  const names = Array.from({ length: 8 }, (_, n) => `ep-${n}`);
  const counts = new Map<string, number>();
  for (let n = 0; n < 7_000; n += 1) {
    const shadow = shadowOf(Buffer.from(`session ${n}`.padEnd(32)).toString("base64"), "ep-0", names) ?? "";
    counts.set(shadow, (counts.get(shadow) ?? 0) + 1);
  }
  assert.equal(counts.size, 7);
  for (const [name, count] of counts) assert.ok(count > 800 && count < 1_200, `${name} shadows ${count} of 7000`);
});

test("an endpoint that is about to fail, or whose ways are, is nobody's shadow, as long as two others are left", () => {
  const now = 1_000_000;
  const scoreOf = (endpoint: string, failure: number, path: number, atMs = now): ScoredEndpoint => {
    const estimate = (value: number) => ({ value, low: value, high: value });
    const paths = [{ clients: "north", endpoint, upstream: "internet", risk: estimate(path), terms: [] }];
    const score = { endpoint, atMs, failure: estimate(failure), overload: NO_RISK, carriesSignal: true, terms: [], paths };
    return { score, sessions: 10 };
  };
  const names = ["ep-1", "ep-2", "ep-3", "ep-4"];
  const policy = ForesightPolicy.parse({ mode: "act" });
  const safe = (scores: readonly ScoredEndpoint[], of = policy) => safeShadows(names, scores, of, now).join(" ");
  assert.equal(safe([scoreOf("ep-1", 0.5, 0), scoreOf("ep-2", 0, 0.5)]), "ep-3 ep-4");
  assert.equal(safe([scoreOf("ep-1", 0.2, 0.2)]), names.join(" "));
  assert.equal(safe([scoreOf("ep-1", 0.1, 0), scoreOf("ep-1", 0.9, 0, now - 5_000)]), names.join(" "), "the newest counts");
  assert.equal(safe([scoreOf("ep-1", 0.9, 0, now - policy.scoreStaleMs - 1)]), names.join(" "), "an old one does not");
  assert.equal(safe(names.slice(1).map((name) => scoreOf(name, 0.9, 0))), names.join(" "), "one alone is no choice");
  assert.equal(safe([scoreOf("ep-1", 0.9, 0)], { ...policy, mode: "advise" }), names.join(" "));
});
