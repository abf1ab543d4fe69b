/** Outside events: what a feed may say, whom it reaches, and what it adds up to. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type OutsideEvent, outsideRisk, placeOf, readFeed } from "../../models/outside-events.ts";
import { parseSwarmFile } from "../../models/swarm-file.ts";
import { holds } from "../support/property.ts";

const NOW = Date.parse("2026-03-01T12:00:00Z");

const GOOD = {
  id: "inc-1",
  source: "provider",
  kind: "provider-incident",
  region: "eu-central-1",
  zone: "eu-central-1a",
  startsAt: "2026-03-01T11:00:00Z",
  endsAt: "2026-03-01T14:00:00+01:00",
  severity: 0.8,
  confidence: 0.5,
  text: "packet loss",
};

function event(over: Partial<OutsideEvent> = {}): OutsideEvent {
  const at = { startsAtMs: NOW - 1_000, endsAtMs: NOW + 1_000 };
  const what = { id: "e", source: "s", kind: "weather" as const, region: "eu", zone: undefined, text: "storm" };
  return { ...what, ...at, severity: 0.5, confidence: 1, ...over };
}

describe("a feed", () => {
  test("good entries are read, times in any zone", () => {
    const feed = readFeed([GOOD, { ...GOOD, id: "inc-2", region: "*", zone: undefined, note: "more" }]);
    assert.deepEqual(feed?.refused, []);
    const [first, second] = feed?.events ?? [];
    assert.equal(first?.endsAtMs, Date.parse("2026-03-01T13:00:00Z"));
    assert.deepEqual([first?.zone, second?.region, second?.zone], ["eu-central-1a", "*", undefined]);
  });

  test("bad entries are refused one by one, by id and field", () => {
    const bad = [
      { ...GOOD, id: "a", severity: 7 },
      { ...GOOD, id: "b", kind: "rumour" },
      { ...GOOD, id: "c", endsAt: GOOD.startsAt },
      { ...GOOD, id: "d", startsAt: "yesterday" },
      { ...GOOD, id: "e", region: "" },
      { ...GOOD, id: "f", endsAt: "2036-03-01T11:00:00Z" },
      { ...GOOD, id: "" },
      GOOD,
      GOOD,
      null,
      { ...GOOD, id: "g", confidence: Number.NaN },
    ];
    const feed = readFeed(bad);
    assert.deepEqual(
      feed?.events.map(({ id }) => id),
      ["inc-1"],
    );
    assert.deepEqual(
      feed?.refused.map(({ index, id, field }) => [index, id, field]),
      [
        [0, "a", "severity"],
        [1, "b", "kind"],
        [2, "c", "endsAt"],
        [3, "d", "startsAt"],
        [4, "e", "region"],
        [5, "f", "endsAt"],
        [6, "", "id"],
        [8, "inc-1", "id"],
        [9, undefined, "entry"],
        [10, "g", "confidence"],
      ],
    );
    assert.ok(feed?.refused.every(({ detail }) => detail.length > 5));
    assert.equal(feed?.refused[0]?.value, "7");
  });

  test("a document that is no list is refused as a whole", () => {
    for (const document of [{}, null, "x", 3]) assert.equal(readFeed(document), undefined);
  });

  test("whatever stands in a list, each entry is either taken or refused", (context) => {
    const entry = fc.oneof(fc.anything(), fc.record(Object.fromEntries(Object.keys(GOOD).map((key) => [key, fc.anything()]))));
    holds(
      context,
      fc.property(fc.array(entry, { maxLength: 20 }), (document) => {
        const feed = readFeed(document);
        assert.equal((feed?.events.length ?? 0) + (feed?.refused.length ?? 0), document.length);
      }),
      300,
    );
  });
});

describe("risk", () => {
  const risk = (events: readonly OutsideEvent[], place = { region: "eu", zone: "a" } as { region: string; zone?: string }) =>
    outsideRisk(events, place, NOW).value;

  test("is what covers the place, now", () => {
    assert.equal(risk([event()]), 0.5);
    assert.equal(risk([event({ region: "us" })]), 0);
    assert.equal(risk([event({ region: "*" })]), 0.5);
    assert.equal(risk([event({ zone: "b" })]), 0);
    assert.equal(risk([event({ zone: "a" })]), 0.5);
    assert.ok(Math.abs(risk([event({ zone: "b" })], { region: "eu" }) - 0.5 / 3) < 1e-12);
    assert.equal(risk([event({ endsAtMs: NOW })]), 0);
    assert.equal(risk([event({ startsAtMs: NOW })]), 0.5);
    assert.equal(risk([event({ region: "eu" })], { region: "EU" }), 0.5);
  });

  test("sees what begins within the time asked for", () => {
    const soon = event({ startsAtMs: NOW + 300_000, endsAtMs: NOW + 600_000 });
    assert.equal(outsideRisk([soon], { region: "eu" }, NOW).value, 0);
    assert.equal(outsideRisk([soon], { region: "eu" }, NOW, 600_000).value, 0.5);
  });

  test("two reports of one kind count once, two kinds add up, and the terms say so", () => {
    const same = [event({ id: "1" }), event({ id: "2", severity: 0.4 })];
    assert.equal(risk(same), 0.5);
    const both = outsideRisk([...same, event({ id: "3", kind: "maintenance" })], { region: "eu" }, NOW);
    assert.equal(both.value, 0.75);
    assert.deepEqual(
      both.terms.map(({ id, value }) => [id, value]),
      [
        ["1", 0.5],
        ["3", 0.5],
        ["2", 0.4],
      ],
    );
  });

  test("lies in 0..1, grows with severity and confidence, and never falls by another event", (context) => {
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    const events = fc.array(
      fc.record({
        id: fc.string(),
        severity: share,
        confidence: share,
        kind: fc.constantFrom("weather" as const, "maintenance" as const, "region-risk" as const),
        region: fc.constantFrom("eu", "us", "*"),
        zone: fc.constantFrom(undefined, "a", "b"),
      }),
      { maxLength: 8 },
    );
    holds(
      context,
      fc.property(events, share, (overs, more) => {
        const list = overs.map((over) => event(over));
        const base = risk(list);
        assert.ok(base >= 0 && base <= 1);
        assert.ok(risk([...list, event({ severity: more })]) >= base - 1e-12);
        const worse = list.map((one) => ({ ...one, severity: Math.max(one.severity, more) }));
        assert.ok(risk(worse) >= base - 1e-12);
      }),
      500,
    );
  });
});

describe("places", () => {
  test("an agent's own word comes before the swarm file's, and a region is local where nobody says", () => {
    assert.deepEqual(placeOf({}), { region: "local" });
    assert.deepEqual(placeOf({ region: "eu", zone: "a" }), { region: "eu", zone: "a" });
    assert.deepEqual(placeOf({ region: "eu", zone: "a" }, { zone: "b" }), { region: "eu", zone: "b" });
    assert.deepEqual(placeOf({ region: "eu", zone: "a" }, { region: "us" }), { region: "us" });
  });

  test("a swarm file may name region and zone", () => {
    const file = (more: string) => `
apiVersion: foreshift/v1
kind: Swarm
name: edge-1
${more}
vip: { v4: 198.19.0.1 }
endpoints: { count: 3 }
key: { secret: { path: a, version: 1 }, publicKey: q1nY2tZ0Kk3fC0hR5aTnGm4bqkVYb1i0Jf2x0sX8d1c= }
`;
    assert.deepEqual(placeOf(parseSwarmFile(file("region: eu-1\nzone: eu-1a"))), { region: "eu-1", zone: "eu-1a" });
    assert.equal("region" in parseSwarmFile(file("")), false);
    assert.throws(() => parseSwarmFile(file("region: EU 1")), /region is not valid/);
  });
});
