// Rotation of keys of every kind on a real Temporal server, over a world in memory whose handshakes fail when the two sides' keys differ.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { rootCause } from "@temporalio/common";
import { keyVault } from "../../drivers/vault/key-versions.ts";
import { openVault } from "../../drivers/vault/vault.ts";
import { ForeshiftError } from "../../models/errors.ts";
import { agentIdentity } from "../../models/identity.ts";
import {
  type ClientsRevoked,
  type EndpointRevoked,
  type KeyKind,
  type KeysRotated,
  presharedPath,
  rotateWorkflowId,
} from "../../models/keys.ts";
import { servingOf } from "../../models/static-identities.ts";
import type { SwarmSpec } from "../../models/swarm-spec.ts";
import type { WorkerSet } from "../../workers/control/worker-set.ts";
import { testHome, testOpenBao } from "../support/services.ts";
import { startMortalWorkers } from "./mortal-workers.ts";
import { eventually, specFor, startServer, startWorkers, type TestServer } from "./support.ts";
import { World } from "./world.ts";

let server: TestServer;
let world: World;
let workers: WorkerSet;
let spec: SwarmSpec;
let swarms = 0;

before(async () => {
  server = await startServer();
});

after(async () => {
  await workers?.stop();
  await server?.stop();
});

beforeEach(async () => {
  await workers?.stop();
  swarms += 1;
  world = new World();
  spec = specFor({ name: `keys-${swarms}` });
  for (const name of ["ep-1", "ep-2"]) world.addMember(name, spec);
  world.connect("ep-1", 2);
  world.connect("ep-2", 1);
  await world.store.saveSpec(spec);
  workers = await startWorkers(server, world);
});

function rotate(kind: KeyKind = "preshared"): Promise<KeysRotated> {
  const { name: swarm } = spec;
  return server.client.workflow.execute("rotateKeys", {
    workflowId: rotateWorkflowId(swarm, kind),
    taskQueue: "control",
    args: [{ swarm, kind, by: "a test", reason: "to see it" }],
  });
}

/** Whether all of these clients and every endpoint agree on one key, and which version that is. */
function agreed(): readonly (number | undefined)[] {
  return world.clients.map(({ ownKey, presharedKey, publicKey }) => {
    for (const { name, presharedKeys } of world.machines.values())
      assert.equal(presharedKeys.get(publicKey), ownKey, `${name} and ${publicKey}`);
    assert.equal(presharedKey === undefined ? undefined : `${presharedKey.path}@${presharedKey.version}`, ownKey);
    return presharedKey?.version;
  });
}

const versionsOf = (publicKey: string) => world.keyVersions.get(presharedPath(spec.name, publicKey)) ?? [];

test("every client gets a further version, both sides have it, and only it is left", async () => {
  const first = await rotate();
  assert.deepEqual([first.outcome, first.done, first.idle, first.skipped], ["rotated", 3, 0, 0]);
  assert.deepEqual(new Set(agreed()), new Set([1]));
  const second = await rotate();
  assert.deepEqual([second.outcome, second.batches], ["rotated", 2]);
  assert.deepEqual(new Set(agreed()), new Set([2]));
  for (const { publicKey } of world.clients)
    assert.deepEqual(versionsOf(publicKey), [
      { version: 1, destroyed: true },
      { version: 2, destroyed: false },
    ]);
  assert.equal(world.mismatches, 0);
  assert.deepEqual(world.score().dropped, []);
  const ends = world.auditRows.filter(({ action }) => action === "rotate preshared keys");
  assert.deepEqual(
    ends.map(({ outcome, details }) => [outcome, details.by, details.reason]),
    [
      ["done", "a test", "to see it"],
      ["done", "a test", "to see it"],
    ],
  );
});

test("clients without traffic, and clients that the hook does not reach, keep nobody from it", async () => {
  const [idle, unreached] = world.clients;
  assert.ok(idle !== undefined && unreached !== undefined);
  idle.sendsTraffic = false;
  // It will answer no handshake, for it is away; what it was told it knows when it is back.
  idle.endpoint = undefined;
  world.machine("ep-1").keys.delete(idle.publicKey);
  unreached.reachable = false;
  const { outcome, done, idle: idles, skipped, named } = await rotate();
  assert.deepEqual([outcome, done, idles, skipped, named], ["rotated", 2, 1, 1, [unreached.publicKey]]);
  assert.equal(agreed()[1], undefined);
  assert.deepEqual(versionsOf(unreached.publicKey), [{ version: 1, destroyed: true }]);
});

for (const [call, phase] of [
  ["vault.issue", "before"],
  ["agent.loadKeys", "before"],
  ["provisioner.distribute", "before"],
  ["agent.setKeys", "before"],
  ["agent.setKeys", "after"],
  ["provisioner.activate", "before"],
] as const) {
  test(`refused for good at ${call}, ${phase} it took effect, it is undone`, async () => {
    let refused = false;
    world.intercept = (name, _, when) => {
      if (name !== call || when !== phase || refused) return;
      refused = true;
      throw new ForeshiftError("NOT_PERMITTED", { detail: "do this in this test" });
    };
    const { outcome } = await rotate();
    // What an endpoint refused once and takes when it is asked again is no failure at all.
    if (outcome === "undone") assert.deepEqual(new Set(agreed()), new Set([undefined]));
    else assert.deepEqual([call.startsWith("agent."), new Set(agreed())], [true, new Set([1])]);
    world.rekeyAll();
    assert.equal(world.mismatches, 0);
  });
}

test("a client that does not shake hands with the new key is put back before its session ends; nobody else is touched", async () => {
  const [first] = world.clients;
  assert.ok(first !== undefined);
  // Its side says that it took the key, and did not.
  first.honest = false;
  spec = { ...spec, keys: { ...spec.keys, preshared: { ...spec.keys.preshared, verifyTimeoutMs: 1_000 } } };
  await world.store.saveSpec(spec);
  const { outcome, text } = await rotate();
  assert.equal(outcome, "undone", text);
  assert.deepEqual(new Set(agreed()), new Set([undefined]));
  world.rekeyAll();
  assert.equal(world.mismatches, 1, "the one that showed it");
});

test("stopped, it halts between steps, and never between the two sides", async () => {
  let switched = 0;
  world.intercept = async (call, _, phase) => {
    if (call !== "agent.setKeys" || phase !== "after" || switched++ > 0) return;
    await world.store.setStopSwitch({ scope: spec.name, on: true, by: "a test", reason: "now" });
  };
  const running = rotate();
  await eventually("it is stopped", async () => (await world.store.stopSwitches()).length > 0);
  const handle = server.client.workflow.getHandle(rotateWorkflowId(spec.name, "preshared"));
  await eventually("it halts", async () => (await handle.query<{ phase: string }, []>("rotation")).phase === "halted");
  agreed();
  await world.store.setStopSwitch({ scope: spec.name, on: false, by: "a test", reason: "" });
  assert.equal((await running).outcome, "rotated");
  assert.deepEqual(new Set(agreed()), new Set([1]));
});

test("a revoked client is out of every endpoint, its keys are gone, and no rotation or ghost brings it back", async () => {
  await rotate();
  const [first] = world.clients;
  assert.ok(first !== undefined);
  const { name: swarm } = spec;
  const request = { swarm, clients: [first.inner], by: "a test", reason: "stolen" };
  const revoked: ClientsRevoked = await server.client.workflow.execute("revokeClients", {
    workflowId: `revoke/${swarm}/1`,
    taskQueue: "control",
    args: [request],
  });
  assert.deepEqual([revoked.publicKeys, revoked.keysDestroyed], [[first.publicKey], true]);
  assert.deepEqual(
    revoked.endpoints.map(({ endpoint, outAfterMs }) => [endpoint, outAfterMs !== undefined]),
    [
      ["ep-1", true],
      ["ep-2", true],
    ],
  );
  for (const { keys } of world.machines.values()) assert.ok(!keys.has(first.publicKey));
  assert.ok(versionsOf(first.publicKey).every(({ destroyed }) => destroyed));
  const { done, outcome } = await rotate();
  assert.deepEqual([outcome, done], ["rotated", 2]);
  const row = world.auditRows.find(({ action }) => action === "revoke");
  assert.deepEqual([row?.details.by, row?.details.reason], ["a test", "stolen"]);
});

test("a certificate is revoked by its serial, with who and why in the trail", async () => {
  const { name: swarm } = spec;
  await server.client.workflow.execute("revokeCertificate", {
    workflowId: `revoke/${swarm}/2`,
    taskQueue: "control",
    args: [{ swarm, serial: "0A:1B", by: "a test", reason: "a copied disk" }],
  });
  assert.ok(world.revokedSerials.has("0A:1B"));
  const row = world.auditRows.find(({ action }) => action === "revoke a certificate");
  assert.match(row?.text ?? "", /0A:1B is on the revocation list\. a copied disk \(asked for by a test\)/);
});

test("a revoked endpoint is heard and led to no more, joins no more, and its certificates are on the list", async () => {
  const { name: swarm } = spec;
  const revoke = (endpoint: string, workflowId: string): Promise<EndpointRevoked> =>
    server.client.workflow.execute("revokeEndpoint", {
      workflowId: `revoke/${swarm}/${workflowId}`,
      taskQueue: "control",
      args: [{ swarm, endpoint, by: "a test", reason: "a copied disk" }],
    });
  await assert.rejects(revoke("ep-9", "3"), (thrown: Error) => /ep-9/.test(rootCause(thrown.cause) ?? ""));
  let sealed = true;
  world.intercept = (call) => {
    if (call !== "pki.serials" || !sealed) return;
    sealed = false;
    throw new ForeshiftError("NOT_READY", { value: "Vault", detail: "it is sealed" });
  };
  const { outAfterMs, serials } = await revoke("ep-1", "4");
  assert.ok(outAfterMs !== undefined && !sealed);
  assert.deepEqual(serials, [agentIdentity(swarm, "ep-1")]);
  assert.deepEqual([...world.revokedSerials], serials);
  assert.deepEqual([...world.endedLogins], ["ep-1"]);
  assert.deepEqual(await world.store.revokedEndpoints(swarm), ["ep-1"]);
  assert.deepEqual(world.steering?.revoked, ["ep-1"]);
  assert.ok(world.clients.every(({ endpoint }) => endpoint === "ep-2"));
  assert.deepEqual(world.score().dropped, []);
  const rows = world.auditRows.filter(({ endpoint }) => endpoint === "ep-1").map(({ action }) => action);
  assert.deepEqual(rows.sort(), ["put out for good", "revoke", "revoke an endpoint", "revoke certificates"]);
});

test("OpenBao really stops in the midst of a rotation and is started again: the rotation ends right, and one version of each key lives", async () => {
  const where = await testHome();
  let bao = await testOpenBao(where);
  const credentialsFile = join(where.home, "control.approle");
  await bao.deliver("control", credentialsFile);
  const vault = openVault({ address: bao.address, auth: { method: "approle", credentialsFile } });
  try {
    await workers.stop();
    workers = await startWorkers(server, world, { keyVault: keyVault(vault.kv) });
    let restarted: Promise<void> | undefined;
    world.intercept = (call, _, phase) => {
      if (call !== "provisioner.activate" || phase !== "before" || restarted !== undefined) return;
      restarted = (async () => {
        await bao.stop();
        bao = await testOpenBao(where);
      })();
    };
    const { done, outcome, text } = await rotate();
    assert.deepEqual([outcome, done, restarted === undefined], ["rotated", 3, false], text);
    await restarted;
    assert.deepEqual(new Set(agreed()), new Set([1]));
    assert.equal((await rotate()).outcome, "rotated");
    for (const [at, version] of agreed().entries()) {
      const path = presharedPath(spec.name, world.clients[at]?.publicKey ?? "");
      const living = (await vault.kv.metadata(path)).versions.filter(({ destroyed }) => !destroyed);
      assert.deepEqual(
        living.map((one) => one.version),
        [version],
      );
    }
    world.rekeyAll();
    assert.equal(world.mismatches, 0);
    assert.deepEqual(world.score().dropped, []);
  } finally {
    await workers.stop();
    await vault.close();
    await bao.stop();
    await where.remove();
  }
});

test("certificates: the new one is seen in use before the old one is revoked, endpoints first, with Vault away in between", async () => {
  let away = true;
  world.intercept = (call) => {
    if (call !== "pki.revoke" || !away) return;
    away = false;
    throw new ForeshiftError("UNREACHABLE", { field: "vault", value: "vault", detail: "away" });
  };
  const { done, named, outcome, total } = await rotate("certificates");
  assert.deepEqual([outcome, done, total, named, away], ["rotated", 6, 6, [], false]);
  const names = ["ep-1", "ep-2", "hypervisor", "reflex", "collector", "control"];
  assert.deepEqual([...world.revokedSerials].sort(), names.map((name) => `${name}-1`).sort());
  assert.deepEqual(
    Object.fromEntries(world.certificatesHeld.serials),
    Object.fromEntries(names.map((name) => [name, `${name}-2`])),
  );
});

test("certificates: one that is not shown to anybody keeps its old one and ends the rotation; who is away is named", async () => {
  const { clinging, unreachable } = world.certificatesHeld;
  clinging.add("ep-2");
  unreachable.add("ep-1");
  spec = { ...spec, keys: { ...spec.keys, certificates: { ...spec.keys.certificates, overlapMs: 1_000 } } };
  await world.store.saveSpec(spec);
  const { named, outcome, text } = await rotate("certificates");
  assert.deepEqual([outcome, named], ["undone", ["ep-1", "ep-2"]]);
  assert.match(text, /of ep-2 was not seen in use; the old one stays good/);
  assert.ok(!world.revokedSerials.has("ep-2-1") && !world.revokedSerials.has("ep-1-1"));
});

test("a further transit version wraps every data key anew before the old one is given up, with Vault away in between", async () => {
  let calls = 0;
  world.intercept = (call) => {
    calls += call === "transit.rewrap" ? 1 : 0;
    if (call === "transit.rewrap" && calls === 2) throw new ForeshiftError("UNREACHABLE", { field: "vault", detail: "away" });
  };
  const { done, outcome, batches } = await rotate("transit");
  assert.deepEqual([outcome, done, batches], ["rotated", 5, 3]);
  assert.deepEqual(world.transit, { wraps: [2, 2, 2, 2, 2], oldestReadable: 2 });
});

const STATIC = { batchClients: 2, graceMs: 1_000, retryEveryMs: 1_000, verifyTimeoutMs: 1_000 };

const STATIC_STEPS = [
  "keyPolicy",
  "lookAtIdentities",
  "issueStaticKey",
  "stateIdentities",
  "nextClients",
  "bringIdentity",
  "lookAtHandshakes",
  "awaitByIdentity",
  "useIdentity",
  "probeByServing",
  "dropIdentity",
  "destroyStaticKey",
  "writeAudit",
] as const;

async function withStaticPolicy(change: Partial<typeof STATIC> = {}): Promise<void> {
  spec = { ...spec, keys: { ...spec.keys, static: { ...spec.keys.static, ...STATIC, ...change } } };
  await world.store.saveSpec(spec);
}

/** The key that serves, and whether it is the only one, probed, and used by every client named; nobody is cut off. */
function settledOn(version: number, slot: 0 | 1): void {
  const identities = world.identities ?? [];
  const serving = servingOf(identities);
  assert.deepEqual([identities.length, serving.secret.version, serving.slot], [1, version, slot]);
  const { swarmPort, swarmPublicKey, vip } = world.steering ?? {};
  assert.deepEqual([swarmPublicKey, (swarmPort ?? vip?.port ?? 0) - (vip?.port ?? 0)], [serving.publicKey, slot]);
  assert.deepEqual(
    (world.keyVersions.get(spec.key.secret.path) ?? []).flatMap((one) => (one.destroyed ? [] : [one.version])),
    [version],
  );
}

test("the static key: clients move to the next one in the other slot, the former one goes; and back again", async () => {
  await withStaticPolicy();
  const first = await rotate("static");
  assert.deepEqual([first.outcome, first.done, first.skipped], ["rotated", 3, 0], first.text);
  settledOn(2, 1);
  assert.deepEqual(world.cutOff, []);
  const second = await rotate("static");
  assert.equal(second.outcome, "rotated", second.text);
  settledOn(3, 0);
  for (const { ways } of world.clients) assert.deepEqual(ways, [servingOf(world.identities ?? []).publicKey]);
  const actions = world.auditRows.map(({ action }) => action);
  for (const action of ["issue a static key", "state static keys", "move clients to a static key", "destroy a static key"])
    assert.ok(actions.includes(action), action);
});

test("the static key: answers that are lost change nothing", async () => {
  await withStaticPolicy();
  const lost = new Set<string>();
  world.intercept = (call, _, phase) => {
    const changes = /^(provisioner|balancer\.apply)/.test(call) && phase === "after";
    if ((!changes && !/^(vault\.|store\.stateI)/.test(call)) || lost.has(call)) return;
    lost.add(call);
    throw new ForeshiftError("UNREACHABLE", { field: call, value: phase, detail: "the answer was lost" });
  };
  const { done, outcome, text } = await rotate("static");
  assert.deepEqual([outcome, done], ["rotated", 3], text);
  assert.ok(lost.size >= 7, [...lost].join(", "));
  assert.equal(world.identities?.length, 1);
  assert.deepEqual(world.cutOff, []);
});

test("the static key: with the worker dying at every step, others go on, and it ends as if nothing had been", async (t) => {
  await workers.stop();
  world = new World();
  for (const name of ["ep-1", "ep-2"]) world.addMember(name, spec);
  world.connect("ep-1", 1);
  await withStaticPolicy();
  const given = Number(process.env["FORESHIFT_SEED"] ?? Number.NaN);
  const seed = Number.isSafeInteger(given) ? given : Math.floor(Math.random() * 1_000);
  const mortal = await startMortalWorkers(server, world, ["vault", "store"], seed % 2 === 0 ? "before" : "after");
  try {
    const { done, idle, outcome, skipped, text } = await rotate("static");
    t.diagnostic(`seed ${seed}, died at ${mortal.deaths.length} steps: ${mortal.deaths.join(", ")}`);
    assert.deepEqual([outcome, done, skipped, idle], ["rotated", 1, 0, 0], text);
  } finally {
    await mortal.stop();
  }
  const { version } = servingOf(world.identities ?? []).secret;
  settledOn(version, 1);
  assert.deepEqual([world.cutOff, world.score().dropped], [[], []]);
  const met = new Set(mortal.deaths.map((death) => death.split(" ").at(-1)));
  for (const step of STATIC_STEPS) assert.ok(met.has(step), step);
  const told = Map.groupBy(world.auditRows, ({ action }) => action);
  const times = Object.entries({
    "state static keys": 3,
    "bring a static key to clients": 1,
    "move clients to a static key": 1,
  });
  for (const [action, count] of times) assert.equal(told.get(action)?.length, count, action);
  const issued = (told.get("issue a static key") ?? []).map(({ details }) => details.version);
  assert.equal(issued.at(-1), `${spec.key.secret.path}@${version}`);
});

test("the static key: refused for good after it was written, it is undone, and the next rotation leaves one version", async () => {
  await withStaticPolicy();
  let refused = false;
  world.intercept = (call, _, phase) => {
    if (call !== "vault.issueStatic" || phase !== "after" || refused) return;
    refused = true;
    throw new ForeshiftError("NOT_PERMITTED", { detail: "do this in this test" });
  };
  assert.deepEqual([(await rotate("static")).outcome, refused], ["undone", true]);
  assert.equal((await rotate("static")).outcome, "rotated");
  settledOn(3, 1);
});

test("the static key: who cannot be reached is tried again", async () => {
  await withStaticPolicy({ graceMs: 600_000 });
  const [first] = world.clients;
  assert.ok(first !== undefined);
  first.reachable = false;
  let tries = 0;
  world.intercept = (call, _, phase) => {
    // The first round has two batches; from the second one on it is there.
    if (call === "provisioner.bring" && phase === "before") tries += 1;
    if (tries > 2) first.reachable = true;
  };
  const { done, named, outcome } = await rotate("static");
  assert.deepEqual([outcome, done, named, tries], ["rotated", 3, [], 3]);
  assert.deepEqual(world.cutOff, []);
});

test("the static key: who cannot be reached until the grace period is over is named, and the former key goes all the same", async () => {
  await withStaticPolicy();
  const [away] = world.clients;
  assert.ok(away !== undefined);
  away.reachable = false;
  const { done, named, outcome, skipped } = await rotate("static");
  assert.deepEqual([outcome, done, skipped, named], ["rotated", 2, 1, [away.publicKey]]);
  settledOn(2, 1);
});

for (const answers of ["where it is", "elsewhere"]) {
  test(`the static key: packets that do not come by the next one, which shook hands ${answers}, have everybody put back`, async () => {
    await withStaticPolicy();
    const liar = world.clients.at(-1);
    assert.ok(liar?.endpoint === "ep-2");
    let switches = 0;
    world.intercept = (call, _, phase) => {
      // The last client, in the second batch, takes the way, shakes hands, and then goes on sending by the former key.
      if (call === "provisioner.use" && phase === "before") switches += 1;
      if (switches === 2) liar.honest = false;
      // With its newest handshake there, ep-2 does not show its session any more, and has its traffic.
      const shaken = call === "provisioner.bring" && phase === "after" && liar.ways.length > 1;
      if (shaken && answers === "elsewhere") world.machine("ep-1").keys.set(liar.publicKey, Date.now());
    };
    const { done, outcome, text } = await rotate("static");
    assert.deepEqual([outcome, done], ["undone", 0], text);
    assert.match(text, /nothing came by the next key from 1 client with traffic/);
    settledOn(1, 0);
    for (const { ways } of world.clients) assert.equal(ways[0], spec.key.publicKey);
  });
}
