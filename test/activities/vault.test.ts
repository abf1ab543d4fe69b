// The vault client against a real OpenBao, over TCP and over a unix socket: secrets, transit, certificates, logins that come back.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { chmod, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { keyPairOf } from "../../drivers/tunnel/wireguard-probe-crypto.ts";
import { agentLogins } from "../../drivers/vault/approles.ts";
import { readCredentials, writeCredentials } from "../../drivers/vault/credentials.ts";
import { keyVault } from "../../drivers/vault/key-versions.ts";
import { openVault, type Vault } from "../../drivers/vault/vault.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import { agentIdentity, processIdentity } from "../../models/identity.ts";
import { IDENTITY_LIMITS } from "../../models/limits-identity.ts";
import type { VaultProcess } from "../../models/vault-layout.ts";
import type { OpenBaoService } from "../../setup/services.ts";
import { eventually } from "../support/eventually.ts";
import { type TestHome, testHome, testOpenBao } from "../support/services.ts";

let where: TestHome;
let bao: OpenBaoService;
let ways: readonly (readonly [name: string, vault: Vault])[];
const opened: Vault[] = [];

before(async () => {
  where = await testHome();
  bao = await testOpenBao(where);
  const { tokenFile, address, socket } = bao;
  assert.ok(socket !== undefined);
  const auth = { method: "token-file", tokenFile } as const;
  ways = [
    ["tcp", openVault({ address, auth })],
    ["unix socket", openVault({ socketPath: socket, auth })],
  ];
});

after(async () => {
  for (const [, vault] of ways ?? []) await vault.close();
  for (const vault of opened) await vault.close();
  await bao?.stop();
  await where?.remove();
});

const codeIs = (code: string) => (error: ForeshiftError) => {
  assert.equal(error.code, code, error.message);
  assert.ok(!error.message.includes("c2VjcmV0"));
  return true;
};
const admin = () => (ways[0] as (typeof ways)[0])[1];
const withTokenFile = (tokenFile: string) =>
  track(openVault({ address: bao.address, auth: { method: "token-file", tokenFile } }));
const withCredentials = (credentialsFile: string) =>
  track(openVault({ address: bao.address, auth: { method: "approle", credentialsFile } }));
function track(vault: Vault): Vault {
  opened.push(vault);
  return vault;
}
async function asProcess(process: VaultProcess): Promise<{ vault: Vault; file: string }> {
  const file = join(where.home, `${process}-${opened.length}.approle`);
  await bao.deliver(process, file);
  return { vault: withCredentials(file), file };
}
const seal = ({ calls }: Vault) => calls.post("transit/encrypt/sessions", { plaintext: "eA==" });
/** Straight to the API, as an operator would. */
async function call(method: string, path: string, body?: object, token?: string): Promise<unknown> {
  const response = await fetch(`${bao.address}/v1/${path}`, {
    method,
    headers: { "x-vault-token": token ?? (await rootToken()) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  assert.ok(response.ok, `${method} ${path}: ${response.status}`);
  const text = await response.text();
  return text === "" ? {} : JSON.parse(text);
}
async function rootToken(): Promise<string> {
  const keys = JSON.parse(await readFile(join(where.home, "openbao", "keys.json"), "utf8")) as { rootToken: string };
  return keys.rootToken;
}

test("each write is a further version, and each version is read by its reference until it is destroyed", async () => {
  for (const [name, { kv }] of ways) {
    const path = `swarms/test/${name.replace(" ", "-")}`;
    const first = await kv.write(path, { privateKey: "c2VjcmV0MQ==" });
    const second = await kv.write(path, { privateKey: "c2VjcmV0Mg==" });
    assert.deepEqual(
      [first, second],
      [
        { path, version: 1 },
        { path, version: 2 },
      ],
    );
    assert.deepEqual(await kv.read(first), { privateKey: "c2VjcmV0MQ==" });
    assert.deepEqual(await kv.read(second), { privateKey: "c2VjcmV0Mg==" });
    await assert.rejects(kv.write(path, { a: "b" }, { expectedVersion: 1 }), codeIs("INVALID_FIELD"));
    await kv.destroy(path, [1]);
    await kv.destroy(path, [1]);
    await assert.rejects(kv.read(first), codeIs("INVALID_FIELD"));
    const { currentVersion, versions } = await kv.metadata(path);
    assert.equal(currentVersion, 2);
    assert.deepEqual(
      versions.map(({ version, destroyed }) => [version, destroyed]),
      [
        [1, true],
        [2, false],
      ],
    );
    assert.ok(Math.abs(Date.now() - (versions[1]?.createdAtMs ?? 0)) < 60_000);
  }
  assert.deepEqual(await admin().kv.list("swarms/test"), ["tcp", "unix-socket"]);
  assert.deepEqual(await admin().kv.list("swarms/nobody"), []);
});

test("a static key pair fits together, and one whose answer was lost is destroyed before another is made", async () => {
  const { kv } = admin();
  const path = "swarms/static/wireguard";
  await kv.write(path, { privateKey: "first" });
  const keys = keyVault(kv);
  const lost = await keys.issueStaticKey({ path, after: 1 });
  const { publicKey, secret } = await keys.issueStaticKey({ path, after: 1 });
  assert.deepEqual([lost.secret.version, secret.version], [2, 3]);
  const kept = await kv.read(secret);
  assert.equal(keyPairOf(Buffer.from(kept["privateKey"] ?? "", "base64")).publicKey.toString("base64"), publicKey);
  assert.deepEqual(
    (await kv.metadata(path)).versions.map(({ destroyed }) => destroyed),
    [false, true, false],
  );
});

test("what is not there, and a token that is not good, are told apart", async () => {
  for (const [, { kv }] of ways) {
    await assert.rejects(kv.read({ path: "swarms/nowhere", version: 1 }), codeIs("INVALID_FIELD"));
    await kv.write("swarms/few", { a: "c2VjcmV0" });
    await assert.rejects(kv.read({ path: "swarms/few", version: 99 }), codeIs("INVALID_FIELD"));
  }
  const wrong = join(where.home, "wrong");
  await writeFile(wrong, "wrong\n", { mode: 0o600 });
  const few = { path: "swarms/few", version: 1 };
  await assert.rejects(withTokenFile(wrong).kv.read(few), codeIs("UNAUTHORISED"));
  await assert.rejects(withTokenFile(join(where.home, "absent")).kv.read(few), codeIs("UNAUTHORISED"));
  const auth = { method: "token-file", tokenFile: wrong } as const;
  await assert.rejects(track(openVault({ socketPath: join(where.run, "no.sock"), auth })).kv.read(few), codeIs("UNREACHABLE"));
  assert.throws(() => openVault({ auth }), codeIs("INVALID_FIELD"));
});

test("a renewed token file is taken up without a restart", async () => {
  const tokenFile = join(where.home, "renewed");
  await writeFile(tokenFile, "wrong\n", { mode: 0o600 });
  const vault = withTokenFile(tokenFile);
  const few = { path: "swarms/few", version: 1 };
  await assert.rejects(vault.kv.read(few), codeIs("UNAUTHORISED"));
  await writeFile(tokenFile, await readFile(bao.tokenFile));
  assert.deepEqual(await vault.kv.read(few), { a: "c2VjcmV0" });
});

test("a process logs in by its AppRole: the delivered secret-id is opened once, and another one is kept, for its owner only", async () => {
  const { vault, file } = await asProcess("reflex");
  const delivered = await readCredentials(file);
  assert.ok("wrappingToken" in delivered);
  assert.equal((await vault.renewToken()) ?? 0, 3_600_000);
  const kept = await readCredentials(file);
  assert.ok("secretId" in kept);
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  await writeCredentials(file, delivered);
  await assert.rejects(withCredentials(file).renewToken(), codeIs("UNAUTHORISED"));
  await writeCredentials(file, kept);
  const again = withCredentials(file);
  await again.renewToken();
  const rolled = await readCredentials(file);
  assert.ok("secretId" in rolled && rolled.secretId !== kept.secretId);
  // Whoever copied the file before is too late.
  await writeCredentials(join(where.home, "copy"), kept);
  await assert.rejects(withCredentials(join(where.home, "copy")).renewToken(), codeIs("UNAUTHORISED"));
  await chmod(file, 0o644);
  await assert.rejects(withCredentials(file).renewToken(), codeIs("UNAUTHORISED"));
});

test("a revoked agent's tokens are worthless at once, and it gets no other; its neighbour, and who has its name later, are not touched", async () => {
  const hypervisor = (await asProcess("hypervisor")).vault;
  const enrolled = async (endpoint: string) => {
    const file = join(where.home, `${endpoint}-${opened.length}.approle`);
    await writeCredentials(file, await hypervisor.appRoles.enrolAgent({ swarm: "lab", endpoint }));
    return withCredentials(file);
  };
  const [stolen, neighbour] = [await enrolled("ep-8"), await enrolled("ep-88")];
  const identity = agentIdentity("lab", "ep-8");
  await stolen.pki.issue({ identity, ttlMs: 60_000 });
  await neighbour.renewToken();
  const ref = await admin().kv.write("swarms/lab/peers/y", { presharedKey: "c2VjcmV0" });
  const { logins } = stolen;
  const control = (await asProcess("control")).vault;
  await assert.rejects(agentLogins(hypervisor.appRoles).end({ swarm: "lab", endpoint: "ep-8" }), codeIs("UNAUTHORISED"));
  for (let times = 1; times <= 2; times += 1) await agentLogins(control.appRoles).end({ swarm: "lab", endpoint: "ep-8" });
  await assert.rejects(stolen.kv.read(ref), codeIs("UNAUTHORISED"));
  await assert.rejects(stolen.pki.issue({ identity, ttlMs: 60_000 }), codeIs("UNAUTHORISED"));
  assert.equal(stolen.logins, logins);
  assert.deepEqual(await neighbour.kv.read(ref), { presharedKey: "c2VjcmV0" });
  const later = await enrolled("ep-8");
  await later.pki.issue({ identity, ttlMs: 60_000 });
  assert.deepEqual(await later.kv.read(ref), { presharedKey: "c2VjcmV0" });
  await assert.rejects(stolen.kv.read(ref), codeIs("UNAUTHORISED"));
});

test("commands of one person at the same time do not take each other's secret-id away", async () => {
  const { vault, file } = await asProcess("operator");
  await vault.renewToken();
  for (let round = 0; round < 5; round += 1)
    await Promise.all(Array.from({ length: 4 }, () => withCredentials(file).renewToken()));
  await withCredentials(file).renewToken();
  // One that was killed in its turn.
  const { pid } = spawnSync("true");
  await writeFile(`${file}.turn`, String(pid));
  const startedAtMs = performance.now();
  await withCredentials(file).renewToken();
  assert.ok(performance.now() - startedAtMs < IDENTITY_LIMITS.fileTurnMsMax / 2);
});

test("whoever guesses at a process's secret-id does not lock it out", async () => {
  const { vault } = await asProcess("trainer");
  for (let guess = 0; guess < 12; guess += 1) {
    const body = JSON.stringify({ role_id: "trainer", secret_id: `guess-${guess}` });
    const { status } = await fetch(`${bao.address}/v1/auth/foreshift/login`, { method: "POST", body });
    assert.equal(status, 400);
  }
  await vault.renewToken();
});

test("a wrapped secret-id that somebody else put there is not opened", async () => {
  const { file } = await asProcess("collector");
  const delivered = await readCredentials(file);
  const other = join(where.home, "forged");
  await bao.deliver("reflex", other);
  const forged = await readCredentials(other);
  assert.ok("wrappingToken" in delivered && "wrappingToken" in forged);
  await writeCredentials(file, { ...delivered, wrappingToken: forged.wrappingToken });
  await assert.rejects(withCredentials(file).renewToken(), codeIs("UNAUTHORISED"));
  await withCredentials(other).renewToken();
});

test("a revoked token is followed by a new login, once for all calls under way", async () => {
  const { vault } = await asProcess("collector");
  await seal(vault);
  assert.equal(vault.logins, 1);
  await call("POST", "sys/leases/revoke-prefix/auth/foreshift/login");
  await Promise.all([seal(vault), seal(vault), seal(vault), seal(vault)]);
  assert.equal(vault.logins, 2);
  // A refusal of a token that is good is no reason to log in.
  await assert.rejects(vault.kv.read({ path: "swarms/few", version: 1 }), codeIs("UNAUTHORISED"));
  assert.equal(vault.logins, 2);
});

test("sealed, Vault is not ready; unsealed or started anew, everybody goes on without a hand", async () => {
  const { vault } = await asProcess("collector");
  await call("PUT", "sys/seal");
  await assert.rejects(seal(vault), codeIs("NOT_READY"));
  await bao.stop();
  await assert.rejects(seal(vault), codeIs("UNREACHABLE"));
  const address = bao.address;
  bao = await testOpenBao(where);
  assert.equal(bao.address, address);
  await seal(vault);
  assert.equal(vault.logins, 1);
});

test("a certificate names who asked for it; its key was made here; nobody gets one for another", async () => {
  const { vault } = await asProcess("collector");
  const identity = processIdentity("collector");
  const issued = await vault.pki.issue({ identity, ttlMs: 3_600_000 });
  const certificate = new X509Certificate(issued.certificate);
  assert.equal(certificate.subjectAltName, `URI:${identity}`);
  assert.equal(certificate.serialNumber, issued.serial);
  const [intermediate, root] = [new X509Certificate(issued.chain), new X509Certificate(issued.root)];
  assert.ok(certificate.verify(intermediate.publicKey) && intermediate.verify(root.publicKey) && root.verify(root.publicKey));
  assert.ok(issued.notAfterMs - Date.now() <= 3_600_000 && issued.issuedAtMs <= Date.now());
  assert.equal(await vault.pki.root(), issued.root);
  for (const other of [processIdentity("control"), agentIdentity("lab", "ep-1"), `${identity}x`, "https://example.com"])
    await assert.rejects(vault.pki.issue({ identity: other, ttlMs: 60_000 }), codeIs("INVALID_FIELD"), other);
});

test("an agent is itself: certificate and keys of its own name and swarm, and no login once it is dismissed", async () => {
  const hypervisor = (await asProcess("hypervisor")).vault;
  const file = join(where.home, "ep-7.approle");
  await writeCredentials(file, await hypervisor.appRoles.enrolAgent({ swarm: "lab", endpoint: "ep-7" }));
  const agent = withCredentials(file);
  await agent.pki.issue({ identity: agentIdentity("lab", "ep-7"), ttlMs: 60_000 });
  for (const other of [agentIdentity("lab", "ep-8"), agentIdentity("other", "ep-7"), processIdentity("control")])
    await assert.rejects(agent.pki.issue({ identity: other, ttlMs: 60_000 }), codeIs("INVALID_FIELD"), other);
  const ref = await admin().kv.write("swarms/lab/peers/x", { presharedKey: "c2VjcmV0" });
  const foreign = await admin().kv.write("swarms/other/peers/x", { presharedKey: "c2VjcmV0" });
  assert.deepEqual(await agent.kv.read(ref), { presharedKey: "c2VjcmV0" });
  await assert.rejects(agent.kv.read(foreign), codeIs("UNAUTHORISED"));
  await hypervisor.appRoles.dismissAgent({ swarm: "lab", endpoint: "ep-7" });
  await hypervisor.appRoles.dismissAgent({ swarm: "lab", endpoint: "ep-7" });
  await assert.rejects(withCredentials(file).renewToken(), codeIs("UNAUTHORISED"));
});

test("a revoked certificate is on the list at once", async () => {
  const { vault } = await asProcess("collector");
  const { serial } = await vault.pki.issue({ identity: processIdentity("collector"), ttlMs: 60_000 });
  const before = await vault.pki.crl();
  assert.ok(!before.toString("hex").toUpperCase().includes(serial));
  await assert.rejects(vault.pki.revoke(serial), codeIs("UNAUTHORISED"));
  const control = (await asProcess("control")).vault;
  const { serial: ended } = await vault.pki.issue({ identity: processIdentity("collector"), ttlMs: 1_000 });
  const { serial: foreign } = await control.pki.issue({ identity: processIdentity("control"), ttlMs: 60_000 });
  const found = await eventually("one has ended", async () => {
    const serials = await control.pki.serialsOf(processIdentity("collector"));
    return serials.includes(ended) ? undefined : serials;
  });
  assert.ok(found.includes(serial) && !found.includes(foreign), found.join());
  await control.pki.revoke(serial);
  await control.pki.revoke(serial);
  const after = await vault.pki.crl();
  assert.ok(after.toString("hex").toUpperCase().includes(serial));
  await vault.pki.renewCrl();
  assert.notDeepEqual(await vault.pki.crl(), after);
});
