// Sealed payloads on the real parts: Temporal keeps no word of ours, transit's rotation loses none, and a Vault on a bad day stops nothing
// that runs and lets nothing out.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Client, Connection } from "@temporalio/client";
import { defaultPayloadConverter, type Payload } from "@temporalio/common";
import { pino } from "pino";
import { signInAddress } from "../../drivers/codec-client.ts";
import { type DataKeyRegistry, openDataKeyRegistry } from "../../drivers/store/data-keys.ts";
import { openStore } from "../../drivers/store/store.ts";
import { openTemporal, type Temporal } from "../../drivers/temporal-client.ts";
import { openPayloadSealing, type PayloadSealing, PLAIN_PAYLOADS } from "../../drivers/temporal-codec/codec.ts";
import { retireTransitVersions, rewrapDataKeys } from "../../drivers/temporal-codec/rewrap.ts";
import { openTransit, type Transit } from "../../drivers/vault/transit.ts";
import { openVault, type Vault } from "../../drivers/vault/vault.ts";
import { ForeshiftError } from "../../models/errors.ts";
import { CODEC_LIMITS } from "../../models/limits-codec.ts";
import { swarmWorkflowId } from "../../models/swarm-messages.ts";
import { choosePort } from "../../setup/ports.ts";
import { type OpenBaoService, startTemporal, type TemporalService } from "../../setup/services.ts";
import { toJson } from "../../workers/codec/payload-json.ts";
import { startWorkerSet, type WorkerSet } from "../../workers/control/worker-set.ts";
import { eventually } from "../support/eventually.ts";
import { startWorker } from "../support/process.ts";
import { type TestHome, type TestPostgres, testHome, testOpenBao, testPostgres } from "../support/services.ts";
import { faultyVault, VAULT_FAULTS } from "../support/vault-faults.ts";
import { activitiesOf, specFor } from "../workflows/support.ts";
import { World } from "../workflows/world.ts";

const CANARY = "canary-8f2d61b7";
const CODEC_ENDPOINT = "http://127.0.0.1:8433/codec";
const SPEC = specFor({ name: "sealed" });

let where: TestHome;
let bao: OpenBaoService;
let postgres: TestPostgres;
let server: TemporalService;
let connection: Connection;
let vault: Vault;
let transit: Transit;
let registry: DataKeyRegistry;
const closers: (() => Promise<unknown>)[] = [];
const world = new World();
let workers: WorkerSet;

/** A process of its own: nothing of another's keys. */
function sealingAt(address: string): PayloadSealing {
  const auth = { method: "token-file", tokenFile: bao.tokenFile };
  const sealing = openPayloadSealing({ mode: "sealed", vault: { address, auth } }, { databaseUrl: postgres.url });
  closers.unshift(() => sealing.close());
  return sealing;
}

async function clientAt(address: string): Promise<Temporal> {
  const temporal = await openTemporal({
    temporalAddress: server.address,
    temporalNamespace: "default",
    sealing: sealingAt(address),
  });
  closers.unshift(() => temporal.close());
  return temporal;
}

async function startWorkers(address: string): Promise<WorkerSet> {
  const log = pino({ level: process.env.FORESHIFT_DEBUG === "1" ? "debug" : "silent" }, pino.destination(2));
  const set = await startWorkerSet({
    connection: { address: server.address },
    namespace: "default",
    activities: activitiesOf(world),
    sealing: sealingAt(address),
    log,
  });
  await eventually("the workers run", () => set.status().state === "running", 30_000);
  return set;
}

before(async () => {
  where = await testHome();
  [bao, postgres, server] = await Promise.all([
    testOpenBao(where),
    testPostgres(where, { migrated: true }),
    startTemporal({ ...where, codecEndpoint: CODEC_ENDPOINT }),
  ]);
  connection = await Connection.connect({ address: server.address });
  vault = openVault({ address: bao.address, auth: { method: "token-file", tokenFile: bao.tokenFile } });
  transit = openTransit(vault.calls, { mount: "transit", key: "payloads" });
  registry = openDataKeyRegistry({ databaseUrl: postgres.url });
  workers = await startWorkers(bao.address);
});

after(async () => {
  await workers?.stop();
  for (const close of closers) await close();
  await registry?.close();
  await vault?.close();
  await connection?.close();
  await Promise.all([server?.stop(), bao?.stop(), postgres?.stop()]);
  await where?.remove();
});

/** Every payload that a run's history holds, search attributes aside, and all of the history's bytes. */
async function rawHistory(workflowId: string): Promise<{ payloads: Payload[]; text: string }> {
  const history = await new Client({ connection }).workflow.getHandle(workflowId).fetchHistory();
  const payloads: Payload[] = [];
  const texts: string[] = [];
  const walk = (value: unknown): void => {
    if (value instanceof Uint8Array) return void texts.push(Buffer.from(value).toString("latin1"));
    if (typeof value === "string") return void texts.push(value);
    if (typeof value !== "object" || value === null) return;
    if ("metadata" in value && "data" in value && value.data instanceof Uint8Array) payloads.push(value as Payload);
    for (const [name, part] of Object.entries(value)) if (name !== "searchAttributes") walk(part);
  };
  for (const event of history.events ?? []) walk(event);
  return { payloads, text: texts.join("\n") };
}

test("what is said to Temporal is in no history, and is read with the key", async () => {
  const temporal = await clientAt(bao.address);
  await temporal.applySwarm({ spec: SPEC, by: CANARY });
  await temporal.stopAutomation({ swarm: SPEC.name, scope: "swarm", by: "a test", reason: CANARY });
  await eventually("it is stopped", async () => (await temporal.status(SPEC.name)).stopped?.reason === CANARY, 20_000);
  const { payloads, text } = await rawHistory(swarmWorkflowId(SPEC.name));
  assert.ok(!text.includes(CANARY), "the history holds a word of ours");
  assert.ok(!text.includes("198.19.0.1"), "the history holds an address");
  assert.ok(payloads.length > 5);
  const encodings = new Set(payloads.map(({ metadata }) => Buffer.from(metadata?.["encoding"] ?? []).toString()));
  assert.deepEqual([...encodings], ["binary/encrypted"]);
  const [codec] = sealingAt(bao.address).converter?.payloadCodecs ?? [];
  const opened = JSON.stringify(
    (await codec?.decode(payloads))?.map((payload) => defaultPayloadConverter.fromPayload(payload)),
  );
  assert.ok(opened.includes(CANARY));
  await temporal.resumeAutomation({ swarm: SPEC.name, scope: "swarm", by: "a test", reason: CANARY });
});

test("the codec server opens payloads for whom it knows, for pages that it knows, and says who read", async () => {
  const port = await choosePort(where.home, "codec");
  const origin = `http://127.0.0.1:${port}`;
  const { uiUrl: ui = "" } = server;
  const token = "a-token-of-the-test";
  const auth = { method: "token-file", tokenFile: bao.tokenFile };
  const process = await startWorker({
    worker: "codec.ts",
    configPath: join(where.home, "codec.json"),
    config: {
      listen: { port },
      origin,
      ui,
      operators: [{ name: "olga", tokenSha256: createHash("sha256").update(token).digest("hex") }],
      databaseUrl: postgres.url,
      payloads: { mode: "sealed", vault: { address: bao.address, auth } },
    },
  });
  closers.unshift(() => process.kill());
  const { payloads } = await rawHistory(swarmWorkflowId(SPEC.name));
  const body = JSON.stringify({ payloads: payloads.map(toJson) });
  const ask = (path: string, headers: Record<string, string>, text = body, method = "POST") =>
    fetch(`${origin}${path}`, { method, headers, redirect: "manual", ...(method === "POST" ? { body: text } : {}) });
  const bearer = { authorization: `Bearer ${token}` };
  await eventually(
    "it answers",
    () =>
      ask("/codec/decode", bearer).then(
        () => true,
        () => false,
      ),
    20_000,
  );
  const textOf = async (answer: Response) => {
    assert.equal(answer.status, 200, await answer.clone().text());
    const { payloads: opened } = (await answer.json()) as { payloads: { metadata: { encoding: string }; data: string }[] };
    return opened.map(({ data }) => Buffer.from(data, "base64").toString()).join("\n");
  };
  assert.ok((await textOf(await ask("/codec/decode", bearer))).includes(CANARY));
  assert.match(
    await textOf(await ask("/codec/decode", bearer, '{"payloads":[{"data":"Zm9v"}]}')),
    /is refused: it is not sealed/,
  );
  for (const headers of [{}, { authorization: "Bearer wrong" }, { authorization: token }, { cookie: "foreshift_session=x" }]) {
    const refused = await ask("/codec/decode", headers as Record<string, string>);
    assert.equal(refused.status, 403);
    assert.ok(!(await refused.text()).includes(CANARY));
  }
  assert.equal((await ask("/codec/decode", { ...bearer, origin: "http://127.0.0.1:1" })).status, 403);
  const page = await ask("/codec/decode", { ...bearer, origin: ui });
  assert.deepEqual([page.status, page.headers.get("access-control-allow-origin")], [200, ui]);
  assert.equal((await ask("/codec/decode", { origin: ui }, "", "OPTIONS")).status, 204);
  assert.equal(
    (await ask("/codec/decode", { origin: "https://evil.example" }, "", "OPTIONS")).headers.get("access-control-allow-origin"),
    null,
  );
  for (const text of ["{", "[]", '{"payloads":[{"data":"!!!"}]}'])
    assert.equal((await ask("/codec/decode", bearer, text)).status, 400);
  // The server may hang up while the rest is still on its way.
  const flood = await ask("/codec/decode", bearer, " ".repeat(CODEC_LIMITS.bodyBytesMax + 1)).catch(() => undefined);
  assert.ok(flood === undefined || flood.status === 400);
  const sealed = await (
    await ask(
      "/codec/encode",
      bearer,
      `{"payloads":[{"metadata":{"encoding":"${btoa("json/plain")}"},"data":"${btoa(`"${CANARY}"`)}"}]}`,
    )
  ).text();
  assert.ok(!sealed.includes(btoa(CANARY).slice(0, 12)));
  assert.ok((await textOf(await ask("/codec/decode", bearer, sealed))).includes(CANARY));
  const tokenFile = join(where.home, "operator-token");
  await writeFile(tokenFile, `${token}\n`, { mode: 0o600 });
  const address = await signInAddress({ address: origin, tokenFile });
  const entered = await fetch(address, { redirect: "manual" });
  const cookie =
    /^foreshift_session=[^;]+(?=; HttpOnly; SameSite=Strict)/.exec(entered.headers.get("set-cookie") ?? "")?.[0] ?? "";
  assert.deepEqual([entered.status, cookie !== ""], [303, true]);
  assert.equal((await fetch(address, { redirect: "manual" })).status, 403, "a ticket is good once");
  assert.ok((await textOf(await ask("/codec/decode", { cookie }))).includes(CANARY));
  assert.equal((await ask("/tickets", { cookie })).status, 403, "a session lets nobody else in");
  const shown = await ask("/namespaces/default/workflows", { cookie }, "", "GET");
  assert.match(await shown.text(), /<html/);
  assert.equal((await ask("/api/v1/settings", {}, "", "GET")).status, 403, "the Web UI is behind the same door");
  const settings = (await (await ask("/api/v1/settings", { cookie }, "", "GET")).json()) as { Codec: { Endpoint: string } };
  assert.equal(settings.Codec.Endpoint, CODEC_ENDPOINT);
  const store = openStore({ databaseUrl: postgres.url });
  closers.unshift(() => store.close());
  const rows = (await store.auditTrail({ limit: 100 })).filter(({ operation }) => operation.startsWith("codec/"));
  const said = rows.map(({ action, outcome, text }) => `${action} ${outcome} ${text}`).join("\n");
  for (const wanted of [
    /^read payloads done olga/m,
    /^seal payloads done olga/m,
    /^sign in done olga/m,
    /^read payloads refused/m,
  ])
    assert.match(said, wanted);
  for (const secret of [token, cookie.slice("foreshift_session=".length), CANARY])
    assert.ok(!said.includes(secret) && !process.log().includes(secret));
});

test("a history is read on the command line, payload by payload", async () => {
  const temporal = await clientAt(bao.address);
  const events = await temporal.history(swarmWorkflowId(SPEC.name));
  assert.match(events[0]?.eventType ?? "", /WORKFLOW_EXECUTION_STARTED$/);
  const text = JSON.stringify(events);
  assert.ok(text.includes(CANARY), "what was said is there");
  assert.doesNotMatch(text, /"refused":"(A sealed payload|Unknown encoding)/, "every payload is opened");
  const blind = await openTemporal({ temporalAddress: server.address, temporalNamespace: "default", sealing: PLAIN_PAYLOADS });
  closers.unshift(() => blind.close());
  assert.ok(!JSON.stringify(await blind.history(swarmWorkflowId(SPEC.name))).includes(CANARY));
});

test("a reader without the key, and a writer without it, are refused", async () => {
  const stranger = new Client({ connection });
  const handle = stranger.workflow.getHandle(swarmWorkflowId(SPEC.name));
  await assert.rejects(handle.query("swarmStatus"), /encrypted|binary/);
  const forged = handle.executeUpdate<unknown, [object]>("stopAutomation", {
    args: [{ scope: "swarm", by: "nobody", reason: "plain" }],
  });
  // Why it was rejected is sealed too.
  await assert.rejects(forged, /Unknown encoding: binary\/encrypted/);
  const status = await (await clientAt(bao.address)).status(SPEC.name);
  assert.equal(status.stopped, undefined, "what was not sealed is not heard, and disturbs nobody");
});

test("transit's rotation in the middle of a run: old payloads are read, also when the old version is given up", async () => {
  const { latest } = await transit.versions();
  assert.equal(await transit.rotate(), latest + 1);
  const newer = await clientAt(bao.address);
  await newer.stopAutomation({ swarm: SPEC.name, scope: "swarm", by: "a test", reason: "after the rotation" });
  const parts = { transit, registry };
  await assert.rejects(
    retireTransitVersions(parts),
    (thrown) => thrown instanceof ForeshiftError && thrown.code === "NOT_READY",
  );
  const { rewrapped, left } = await rewrapDataKeys(parts);
  assert.ok(rewrapped >= 2 && left === 0, `${rewrapped} rewrapped, ${left} left`);
  assert.deepEqual(await rewrapDataKeys(parts), { rewrapped: 0, left: 0 });
  assert.equal(await retireTransitVersions(parts), latest + 1);
  const { payloads } = await rawHistory(swarmWorkflowId(SPEC.name));
  const first = Buffer.from(payloads[0]?.metadata?.["wrapped-key"] ?? []).toString();
  assert.match(first, new RegExp(`^vault:v${latest}:`));
  await assert.rejects(
    transit.unwrap(first),
    (thrown) => thrown instanceof ForeshiftError && thrown.code === "PAYLOAD_REFUSED",
    "Vault itself will not have the old version any more",
  );
  // A worker that knows no key replays the run from its first payload on.
  await workers.stop();
  workers = await startWorkers(bao.address);
  const status = await (await clientAt(bao.address)).status(SPEC.name);
  assert.equal(status.stopped?.reason, "after the rotation");
});

test("Vault on a bad day: who holds keys goes on, who holds none waits and lets nothing out", {
  timeout: 120_000,
}, async () => {
  const proxy = await faultyVault(bao.address);
  closers.push(() => proxy.close());
  const running = await clientAt(proxy.address);
  const stop = (temporal: Temporal, reason: string) =>
    temporal.stopAutomation({ swarm: SPEC.name, scope: "swarm", by: "a test", reason });
  await stop(running, "warm");
  await running.status(SPEC.name);
  const fresh = await Promise.all(
    VAULT_FAULTS.map(async (fault) => {
      const own = await faultyVault(bao.address);
      closers.push(() => own.close());
      own.fault = fault;
      return { own, fault, temporal: await clientAt(own.address) };
    }),
  );
  const asked = fresh.map(async ({ fault, temporal }) => {
    await assert.rejects(
      stop(temporal, `${CANARY} ${fault}`),
      (thrown) => thrown instanceof ForeshiftError && thrown.retryable && thrown.message.includes("payload codec"),
      fault,
    );
  });
  for (const fault of VAULT_FAULTS) {
    proxy.fault = fault;
    await stop(running, `while ${fault}`);
    await running.status(SPEC.name);
  }
  await Promise.all(asked);
  const { text } = await rawHistory(swarmWorkflowId(SPEC.name));
  assert.ok(!text.includes(CANARY) && !text.includes("while "));
  for (const { own, temporal, fault } of fresh) {
    own.fault = undefined;
    await stop(temporal, `after ${fault}`);
  }
});

test("sealed and unsealed again, OpenBao stops no run that is under way", async () => {
  const temporal = await clientAt(bao.address);
  const stop = (reason: string) => temporal.stopAutomation({ swarm: SPEC.name, scope: "swarm", by: "a test", reason });
  await stop("warm");
  await temporal.status(SPEC.name);
  const { rootToken, unsealKey } = JSON.parse(await readFile(`${where.home}/openbao/keys.json`, "utf8")) as {
    rootToken: string;
    unsealKey: string;
  };
  const put = async (path: string, body: object) => {
    const headers = { "x-vault-token": rootToken };
    const answer = await fetch(`${bao.address}/v1/${path}`, { method: "PUT", headers, body: JSON.stringify(body) });
    assert.ok(answer.ok, `${path}: ${answer.status}`);
  };
  await put("sys/seal", {});
  await stop("while sealed");
  assert.ok((await temporal.status(SPEC.name)).stopped !== undefined);
  const stranger = await clientAt(bao.address);
  await assert.rejects(stranger.resumeAutomation({ swarm: SPEC.name, scope: "swarm", by: "a test", reason: "none" }), /sealed/);
  await put("sys/unseal", { key: unsealKey });
  await eventually("it is unsealed", async () => (await transit.versions().catch(() => undefined)) !== undefined, 20_000);
  await stranger.resumeAutomation({ swarm: SPEC.name, scope: "swarm", by: "a test", reason: "open again" });
});
