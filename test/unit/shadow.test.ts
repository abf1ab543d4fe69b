// Shadows: one answer for each session, never the holder, spread evenly, and little change when an endpoint comes or goes.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { NO_RISK, type ScoredEndpoint } from "../../models/risk.ts";
import { apartFrom, reserveShadows, type ShadowCandidate, safeShadows, shadowOf } from "../../models/shadow.ts";
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

const places = fc.record({
  region: fc.constantFrom(undefined, "north", "south"),
  zone: fc.constantFrom(undefined, "a", "b"),
  host: fc.constantFrom(undefined, "h1", "h2"),
});

test("a shadow does not fail together with its holder, as long as there is a choice", () => {
  const fleet = fc.dictionary(fc.stringMatching(/^ep-[0-9]$/), places, { minKeys: 2 });
  fc.assert(
    fc.property(fleet, (where) => {
      const names = Object.keys(where);
      const [holder = ""] = names;
      const here = where[holder];
      const chosen = apartFrom(holder, names, new Map(Object.entries(where)));
      assert.ok(chosen.length > 0 && !chosen.includes(holder));
      const differs = (name: string, field: "region" | "zone" | "host") =>
        here?.[field] !== undefined && where[name]?.[field] !== undefined && where[name]?.[field] !== here[field];
      const elsewhere = names.filter((name) => differs(name, "region") || differs(name, "zone"));
      const hosts = names.filter((name) => elsewhere.includes(name) || differs(name, "host"));
      const others = names.filter((name) => name !== holder);
      assert.deepEqual(chosen, [elsewhere, hosts, others].find((level) => level.length >= 2) ?? others);
    }),
  );
});

const three = fc.tuple(...["ep-1", "ep-2", "ep-3"].map((endpoint) => places.map((place) => ({ endpoint, ...place }))));

test("of three gateways any one may be lost: its sessions land on both others, within the room that was reserved", () => {
  const sessions = fc.uniqueArray(key, { minLength: 3, maxLength: 60 });
  fc.assert(
    fc.property(three, sessions, fc.nat(2), (gateways, keys, lost) => {
      const candidates = gateways.map((gateway): ShadowCandidate => ({ ...gateway, room: keys.length }));
      const shadows = reserveShadows(candidates[lost]?.endpoint ?? "", keys, candidates);
      assert.equal(shadows.size, keys.length);
      assert.equal(new Set(shadows.values()).size, 2);
      assert.ok(![...shadows.values()].includes(candidates[lost]?.endpoint ?? ""));
      assert.deepEqual(reserveShadows(candidates[lost]?.endpoint ?? "", keys.toReversed(), candidates.toReversed()), shadows);
    }),
  );
});

test("no shadow is promised more than it has room for, and no room is left while a session has none", () => {
  const room = fc.tuple(fc.nat(20), fc.nat(20), fc.nat(20));
  fc.assert(
    fc.property(three, room, fc.uniqueArray(key, { maxLength: 50 }), (gateways, rooms, keys) => {
      const candidates = gateways.map((gateway, at): ShadowCandidate => ({ ...gateway, room: rooms[at] ?? 0 }));
      const shadows = reserveShadows("ep-1", keys, candidates);
      const others = candidates.filter(({ endpoint }) => endpoint !== "ep-1");
      for (const { endpoint, room: most } of others)
        assert.ok([...shadows.values()].filter((shadow) => shadow === endpoint).length <= most);
      const total = others.reduce((sum, { room: most }) => sum + most, 0);
      assert.equal(shadows.size, Math.min(keys.length, total));
    }),
  );
});
