/** Words about keys in any order end in the same place; batches begin with one; what is in use is never destroyed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { wantedRotations } from "../../models/key-schedule.ts";
import { batchSize, heed, type PeerWord, presharedPath, rotateWorkflowId, versionsToDestroy } from "../../models/keys.ts";
import { KeyPolicy } from "../../models/swarm-spec.ts";
import { Revocations } from "../../workers/reflex/revocations.ts";
import { holds } from "../support/property.ts";

const KEY = `${"A".repeat(42)}A=`;

const anyWord = (revision: number): fc.Arbitrary<PeerWord> =>
  fc.oneof(
    fc.nat(50).map(
      (version): PeerWord => ({
        peer: { publicKey: KEY, innerAddresses: ["10.66.1.1"], presharedKey: { path: "p", version: version + 1 }, revision },
      }),
    ),
    fc.constant<PeerWord>({ peer: { publicKey: KEY, innerAddresses: ["10.66.1.1"], revision } }),
    fc.constant<PeerWord>({ revoked: { publicKey: KEY, revision } }),
  );

/** Words with distinct revisions, as the source of truth gives them, and the order in which they arrive, some of them twice. */
const anyHistory = fc.integer({ min: 1, max: 12 }).chain((count) =>
  fc.record({
    words: fc.tuple(...Array.from({ length: count }, (_, at) => anyWord(at + 1))),
    order: fc.array(fc.nat(count - 1), { minLength: count, maxLength: 3 * count }),
    shuffled: fc.shuffledSubarray(
      Array.from({ length: count }, (_, at) => at),
      { minLength: count },
    ),
    /** Sessions' own words in between. */
    hearsay: fc.array(fc.record({ at: fc.nat(20), version: fc.nat(50) }), { maxLength: 4 }),
  }),
);

test("whatever the order in which words about a peer arrive, the latest of the source of truth holds", (context) => {
  const property = fc.property(anyHistory, ({ words, order, shuffled, hearsay }) => {
    const arriving: PeerWord[] = [...order, ...shuffled].flatMap((at) => words[at] ?? []);
    for (const { at, version } of hearsay) {
      const presharedKey = { path: "p", version: version + 1 };
      arriving.splice(at, 0, { peer: { publicKey: KEY, innerAddresses: ["10.66.1.1"], presharedKey } });
    }
    const held = arriving.reduce<PeerWord | undefined>((known, word) => heed(known, word), undefined);
    assert.deepEqual(held, words.at(-1));
  });
  holds(context, property, 1_000);
});

test("once revoked, no session's word brings a client back", (context) => {
  const property = fc.property(fc.nat(100), fc.array(fc.nat(50)), (revision, versions) => {
    let held: PeerWord = { revoked: { publicKey: KEY, revision } };
    for (const version of versions)
      held = heed(held, {
        peer: { publicKey: KEY, innerAddresses: ["10.66.1.1"], presharedKey: { path: "p", version: version + 1 } },
      });
    assert.ok("revoked" in held);
  });
  holds(context, property, 200);
});

test("batches begin with one client, grow, never beyond the largest, and end", (context) => {
  const property = fc.property(fc.integer({ min: 1, max: 1_024 }), fc.nat(5_000), (largest, clients) => {
    let left = clients;
    let batches = 0;
    let before = 0;
    while (left > 0) {
      const size = batchSize(batches, largest);
      assert.ok(size >= Math.max(1, before) && size <= largest);
      if (batches === 0) assert.equal(size, 1);
      before = size;
      left -= size;
      batches += 1;
    }
    assert.ok(batches <= clients);
  });
  holds(context, property, 300);
  assert.throws(() => batchSize(0, 0));
});

test("the version in use is not destroyed, and nothing twice", (context) => {
  const anyVersions = fc.array(fc.record({ version: fc.integer({ min: 1, max: 40 }), destroyed: fc.boolean() }));
  const property = fc.property(anyVersions, fc.integer({ min: 1, max: 40 }), (versions, keep) => {
    const gone = versionsToDestroy(versions, keep);
    assert.ok(!gone.includes(keep));
    for (const { version, destroyed } of versions) if (version !== keep && !destroyed) assert.ok(gone.includes(version));
  });
  holds(context, property, 300);
});

test("each client's key has a path of its own, in one folder", (context) => {
  const anyKey = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString("base64"));
  const property = fc.property(anyKey, anyKey, (one, other) => {
    const path = presharedPath("lab", one);
    assert.match(path, /^swarms\/lab\/peers\/[\w-]{43}$/);
    assert.equal(path === presharedPath("lab", other), one === other);
  });
  holds(context, property, 300);
});

test("a rotation is due where the swarm file says so, stands still while stopped, and never reaches into its next turn", () => {
  const everyMs = 3_600_000;
  const keys = KeyPolicy.parse({ preshared: { everyMs, jitterMs: 86_400_000 } });
  const specs = [
    { name: "one", keys },
    { name: "two", keys: KeyPolicy.parse({}) },
  ];
  const [due, ...others] = wantedRotations(specs, []);
  assert.deepEqual(others, []);
  assert.deepEqual([due?.swarm, due?.kind, due?.jitterMs, due?.catchUpMs], ["one", "preshared", everyMs / 2, everyMs]);
  assert.equal(due?.pausedBecause, undefined);
  const [stopped] = wantedRotations(specs, [{ scope: "*", by: "somebody", reason: "a fire" }]);
  assert.match(stopped?.pausedBecause ?? "", /^Stopped by the stop switch; (?!.*fire)/);
});

test("the transit key is everybody's: one Schedule for all, as often as the swarm wants it that wants it most often", () => {
  const specs = [3, 1, 2].map((days) => ({
    name: `s-${days}`,
    keys: KeyPolicy.parse({ transit: { everyMs: days * 86_400_000 }, certificates: { everyMs: 3_600_000 } }),
  }));
  const wanted = wantedRotations(specs, [{ scope: "s-1", by: "somebody", reason: "one swarm only" }]);
  const transit = wanted.filter(({ kind }) => kind === "transit");
  assert.deepEqual(
    transit.map(({ everyMs, id, pausedBecause, swarm }) => [id, swarm, everyMs, pausedBecause]),
    [["rotate-due/*/transit", "*", 86_400_000, undefined]],
  );
  assert.equal(wanted.filter(({ kind }) => kind === "certificates").length, 3);
  assert.equal(rotateWorkflowId("s-1", "transit"), rotateWorkflowId("s-2", "transit"));
});

test("an endpoint that has missed a revocation is known by the others, until it has heard of it", () => {
  const revocations = new Revocations();
  const members = ["ep-1", "ep-2"];
  assert.ok(revocations.isUpToDate("ep-1", members), "nobody was revoked");
  revocations.heard("ep-1", 7);
  assert.ok(!revocations.isUpToDate("ep-2", members));
  assert.ok(revocations.isUpToDate("ep-1", members));
  revocations.heard("ep-2", 7);
  assert.ok(revocations.isUpToDate("ep-2", members));
  assert.ok(revocations.isUpToDate("ep-3", ["ep-3"]), "those that are no members any more do not count");
});
