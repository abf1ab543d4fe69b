// The store against a real PostgreSQL: versions, ownership of sessions, write-once audit, and a server that is killed.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import pg from "pg";
import { listen } from "../../drivers/store/listener.ts";
import { migrate } from "../../drivers/store/migrate.ts";
import { SESSIONS_CHANNEL } from "../../drivers/store/sessions.ts";
import { openStore, type PostgresStore } from "../../drivers/store/store.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import { alone, broughtUp, firstIdentity, switchedOver } from "../../models/static-identities.ts";
import { storeContract } from "../support/contracts/store.ts";
import { eventually } from "../support/eventually.ts";
import { type TestHome, type TestPostgres, testHome, testPostgres } from "../support/services.ts";
import { heartbeatOf, keyOf, peerOf, sessionOf, storedOf } from "../support/sessions.ts";

let where: TestHome;
let postgres: TestPostgres;
let store: PostgresStore;
const noShadow = () => undefined;

function migrationNames(): string[] {
  const files = readdirSync(join(import.meta.dirname, "..", "..", "migrations"));
  return files.map((file) => file.replace(/\.sql$/, "")).sort();
}

before(async () => {
  where = await testHome();
  postgres = await testPostgres(where, { migrated: false });
  store = openStore({ databaseUrl: postgres.url });
});

after(async () => {
  await store?.close();
  await postgres?.stop();
  await where?.remove();
});

test("concurrent starts migrate once", async () => {
  const applied = await Promise.all([migrate(postgres.url), migrate(postgres.url), migrate(postgres.url)]);
  assert.deepEqual(applied.flat().sort(), migrationNames());
  assert.deepEqual(await migrate(postgres.url), []);
});

test("each change of a session takes the next version, and changes are read in order from any version", async () => {
  const swarm = "versions";
  const upserts = Array.from({ length: 300 }, (_, n) => sessionOf(n, "ep-1"));
  assert.equal(await store.applyDeltas({ swarm, endpoint: "ep-1", upserts, removed: [] }, () => "ep-2"), 300);
  assert.equal(await store.headVersion(swarm), 300);
  const session = (await store.sessions(swarm))[0];
  assert.deepEqual(session, { ...upserts[0], shadow: "ep-2", version: 1 });
  await store.applyDeltas(
    { swarm, endpoint: "ep-1", upserts: [sessionOf(5, "ep-1", { rxBytes: 99 })], removed: [keyOf(6), keyOf(999)] },
    noShadow,
  );
  const changes = await store.changesAfter(swarm, 299, 100);
  assert.deepEqual(
    changes.map(({ version, line }) => [version, Object.keys(line)[0]]),
    [
      [300, "upsert"],
      [301, "upsert"],
      [302, "remove"],
    ],
  );
  const paged: number[] = [];
  for (let from = 0; ; ) {
    const page = await store.changesAfter(swarm, from, 64);
    if (page.length === 0) break;
    paged.push(...page.map(({ version }) => version));
    from = page.at(-1)?.version ?? from;
  }
  assert.deepEqual(
    paged,
    [...paged].sort((one, other) => one - other),
  );
  assert.equal(paged.length, 300);
});

test("the newest handshake holds the session: late words of the old holder change nothing", async () => {
  const swarm = "owners";
  const apply = (endpoint: string, lastHandshakeMs: number) =>
    store.applyDeltas({ swarm, endpoint, upserts: [sessionOf(1, endpoint, { lastHandshakeMs })], removed: [] }, noShadow);
  assert.equal(await apply("ep-1", 100), 1);
  assert.equal(await apply("ep-2", 200), 1);
  assert.equal(await apply("ep-1", 100), 0);
  assert.equal(await store.applyDeltas({ swarm, endpoint: "ep-1", upserts: [], removed: [keyOf(1)] }, noShadow), 0);
  assert.equal((await store.sessions(swarm))[0]?.endpoint, "ep-2");
  assert.equal(await store.applyDeltas({ swarm, endpoint: "ep-2", upserts: [], removed: [keyOf(1)] }, noShadow), 1);
  assert.deepEqual(await store.sessions(swarm), []);
  assert.equal(await apply("ep-1", 50), 1);
});

test("writers of one swarm take versions without gaps and without one twice", async () => {
  const swarm = "writers";
  const writes = Array.from({ length: 24 }, (_, n) =>
    store.applyDeltas(
      { swarm, endpoint: `ep-${n}`, upserts: [sessionOf(n, `ep-${n}`), sessionOf(100 + n, `ep-${n}`)], removed: [] },
      noShadow,
    ),
  );
  await Promise.all(writes);
  const versions = (await store.changesAfter(swarm, 0, 1_000)).map(({ version }) => version);
  assert.deepEqual(
    versions,
    Array.from({ length: 48 }, (_, n) => n + 1),
  );
});

test("static keys that are stated are told in order with everything else, and what is not whole is not stated", async () => {
  const swarm = "identities";
  const first = firstIdentity({ publicKey: keyOf(1), secret: { path: "swarms/identities/wireguard", version: 1 } });
  const both = broughtUp([first], { publicKey: keyOf(2), secret: { path: "swarms/identities/wireguard", version: 2 } });
  assert.equal(await store.identities(swarm), undefined);
  await store.registerPeers(swarm, [peerOf(1)]);
  for (const identities of [both, both, alone(switchedOver(both))]) await store.stateIdentities({ swarm, identities });
  assert.deepEqual(await store.identities(swarm), alone(switchedOver(both)));
  assert.deepEqual(
    (await store.changesAfter(swarm, 1, 10)).map(({ line }) => line),
    [{ identities: alone(switchedOver(both)), version: 3 }],
  );
  await assert.rejects(store.stateIdentities({ swarm, identities: [...both, ...both] }));
  await store.forgetFleet(swarm);
  assert.equal(await store.identities(swarm), undefined);
});

test("peers are registered once; a key or an inner address that is there twice is refused", async () => {
  const swarm = "peers";
  const withSecret = { ...peerOf(2), presharedKey: { path: "peers/2", version: 1 } };
  assert.equal(await store.registerPeers(swarm, [peerOf(1), withSecret]), 2);
  assert.equal(await store.registerPeers(swarm, [peerOf(1), withSecret]), 0);
  assert.deepEqual(await store.peers(swarm), [
    { ...peerOf(1), revision: 1 },
    { ...withSecret, revision: 2 },
  ]);
  const duplicate = (error: ForeshiftError) => error.code === "DUPLICATE_NAME" && error.field === "innerAddresses";
  await assert.rejects(store.registerPeers(swarm, [{ ...peerOf(3), innerAddresses: peerOf(1).innerAddresses }]), duplicate);
  await assert.rejects(
    store.registerPeers(swarm, [peerOf(4), { ...peerOf(5), innerAddresses: peerOf(4).innerAddresses }]),
    duplicate,
  );
  assert.equal((await store.peers(swarm)).length, 2);
});

test("audit rows are written once and neither changed nor deleted", async () => {
  const entry = {
    operation: "drain/lab/ep-1/x:pin",
    swarm: "audited",
    endpoint: "ep-1",
    action: "pin sessions",
    outcome: "done" as const,
    text: "3 sessions pinned",
    workflowId: "drain/lab/ep-1",
    runId: "r",
    details: { sessions: 3, list: ["a"] },
  };
  await store.audit(entry);
  await store.audit({ ...entry, text: "again" });
  await store.audit({ ...entry, operation: "other", endpoint: undefined, workflowId: undefined, runId: undefined });
  const rows = await store.auditTrail({ swarm: "audited", limit: 10 });
  assert.equal(rows.length, 2);
  assert.deepEqual({ ...rows[0], seq: 0, atMs: 0 }, { ...entry, seq: 0, atMs: 0 });
  assert.deepEqual(await store.auditTrail({ swarm: "audited", limit: 1 }), [rows[1]]);
  assert.deepEqual(await store.auditTrail({ swarm: "audited", afterSeq: rows[0]?.seq ?? 0, limit: 5 }), [rows[1]]);
  assert.deepEqual(await store.auditTrail({ workflowId: "drain/lab/ep-1", limit: 5 }), [rows[0]]);
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  try {
    for (const statement of ["update audit set text = 'x'", "delete from audit", "truncate audit"]) {
      await assert.rejects(client.query(statement), /written once/);
    }
  } finally {
    await client.end();
  }
});

storeContract(() => store);

test("heartbeats: the latest of each endpoint, though they come out of order or twice", async () => {
  const now = Date.now();
  const batch = [
    heartbeatOf("ep-1", 2, { atMs: now }),
    heartbeatOf("ep-1", 1, { atMs: now - 1_000 }),
    heartbeatOf("ep-2", 1, { atMs: now }),
  ].map((heartbeat) => storedOf(heartbeat));
  await store.insertHeartbeats(batch);
  await store.insertHeartbeats([...batch, storedOf(heartbeatOf("ep-2", 0, { atMs: now - 5_000 }))]);
  const latest = await store.heartbeats("lab");
  assert.deepEqual(
    latest.map(({ endpoint, sequence, cpuShare, cpuPressure }) => ({ endpoint, sequence, cpuShare, cpuPressure })),
    [
      { endpoint: "ep-1", sequence: 2, cpuShare: 0.25, cpuPressure: undefined },
      { endpoint: "ep-2", sequence: 1, cpuShare: 0.25, cpuPressure: undefined },
    ],
  );
  const kept = await store.heartbeatsSince(now - 60_000);
  assert.deepEqual(
    kept.map(({ swarm, endpoint, atMs, sample }) => [swarm, endpoint, atMs - now, sample]),
    [
      ["lab", "ep-2", -5_000, { sessions: 3 }],
      ["lab", "ep-1", -1_000, { sessions: 3 }],
      ["lab", "ep-1", 0, { sessions: 3 }],
      ["lab", "ep-2", 0, { sessions: 3 }],
    ],
  );
});

test("a killed server: writes and listening go on after its restart, and none is lost or doubled", async () => {
  const swarm = "killed";
  const stop = new AbortController();
  let listening = 0;
  const notices: string[] = [];
  const listener = listen({
    databaseUrl: postgres.url,
    channel: SESSIONS_CHANNEL,
    onNotice: (payload) => notices.push(payload),
    onListening: () => (listening += 1),
    onBreak: () => undefined,
    signal: stop.signal,
  });
  try {
    await eventually("listening", () => listening === 1);
    await store.registerPeers(swarm, [peerOf(1)]);
    await postgres.kill();
    // A server that was killed may take longer to recover than one call is willing to wait.
    const during = eventually(
      "written",
      () => store.registerPeers(swarm, [peerOf(1), peerOf(2)]).catch(() => undefined),
      20_000,
    );
    await postgres.start();
    assert.equal(await during, 1);
    await eventually("listening again", () => listening === 2, 10_000);
    await store.registerPeers(swarm, [peerOf(3)]);
    await eventually("the notice", () => notices.some((notice) => notice === JSON.stringify({ swarm, version: 3 })));
    assert.deepEqual(
      (await store.peers(swarm)).map(({ publicKey }) => publicKey),
      [keyOf(1), keyOf(2), keyOf(3)],
    );
  } finally {
    stop.abort();
    await listener;
  }
});

test("an absent server, a wrong password and a wrong URL say so without the password", async () => {
  const url = new URL(postgres.url);
  url.password = "hunter2hunter2";
  const wrong = openStore({ databaseUrl: url.href });
  await assert.rejects(
    wrong.specs(),
    (error: ForeshiftError) => error.code === "UNAUTHORISED" && !error.message.includes("hunter2"),
  );
  await wrong.close();
  url.port = "1";
  const absent = openStore({ databaseUrl: url.href });
  await assert.rejects(
    absent.specs(),
    (error: ForeshiftError) => error.code === "UNREACHABLE" && !error.message.includes("hunter2"),
  );
  await absent.close();
  assert.throws(
    () => openStore({ databaseUrl: "http://user:hunter2@host/" }),
    (error: ForeshiftError) => error.code === "INVALID_FIELD" && !error.message.includes("hunter2"),
  );
});
