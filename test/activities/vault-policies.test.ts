// Every process against a real OpenBao, trying everything: what docs/security.md says it may do works, everything else is refused.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import vault from "node-vault";
import { writeCredentials } from "../../drivers/vault/credentials.ts";
import { textSealer } from "../../drivers/vault/sealed-text.ts";
import { openVault, type Vault } from "../../drivers/vault/vault.ts";
import { ForeshiftError } from "../../models/errors.ts";
import { agentIdentity, processIdentity } from "../../models/identity.ts";
import { ipsecKey, VAULT_PROCESSES, type VaultProcess } from "../../models/vault-layout.ts";
import type { OpenBaoService } from "../../setup/services.ts";
import { type TestHome, testHome, testOpenBao } from "../support/services.ts";

interface Caller {
  readonly name: string;
  readonly identity: string;
  readonly vault: Vault;
  /** Any request, with the process's own token. */
  readonly raw: (method: string, path: string, body?: object) => Promise<unknown>;
}

let where: TestHome;
let bao: OpenBaoService;
const callers: Caller[] = [];
let attempt = 0;
/** Made by the administrator for the tests to read and open. */
const things = { sessions: "", payloads: "", ipsec: "", serials: [] as string[] };

before(async () => {
  where = await testHome();
  bao = await testOpenBao(where);
  const { kv, calls } = opened(bao.tokenFile, "token-file");
  await kv.write("swarms/lab/wireguard", { privateKey: "x" });
  await kv.write("swarms/lab/peers/c", { presharedKey: "x" });
  await kv.write("swarms/other/wireguard", { privateKey: "x" });
  for (const key of ["sessions", "payloads"] as const) {
    const answer = (await calls.post(`transit/encrypt/${key}`, { plaintext: "eA==" })) as { data: { ciphertext: string } };
    things[key] = answer.data.ciphertext;
  }
  [things.ipsec = ""] = await textSealer(calls, { mount: "transit", key: ipsecKey("lab") }).seal([
    { context: "ep-1 out 256", value: "key" },
  ]);
  for (const process of VAULT_PROCESSES) {
    const file = join(where.home, `${process}.approle`);
    await bao.deliver(process, file);
    callers.push(await caller(process, processIdentity(process), file));
  }
  const file = join(where.home, "agent.approle");
  const hypervisor = callers.find(({ name }) => name === "hypervisor");
  assert.ok(hypervisor !== undefined);
  await writeCredentials(file, await hypervisor.vault.appRoles.enrolAgent({ swarm: "lab", endpoint: "ep-1" }));
  callers.push(await caller("agent", agentIdentity("lab", "ep-1"), file));
});

after(async () => {
  await Promise.all(callers.map((each) => each.vault.close()));
  await bao?.stop();
  await where?.remove();
});

function opened(file: string, method: "approle" | "token-file"): Vault {
  const auth = method === "approle" ? { method, credentialsFile: file } : { method, tokenFile: file };
  return openVault({ address: bao.address, auth });
}

async function caller(name: string, identity: string, file: string): Promise<Caller> {
  const driver = opened(file, "approle");
  await driver.renewToken();
  const kept = JSON.parse(await readFile(file, "utf8")) as { mount: string; roleId: string; secretId: string };
  const own = vault({ endpoint: bao.address, debug: () => undefined, "request-promise": { defaults: () => exchange } });
  await own.approleLogin({ mount_point: kept.mount, role_id: kept.roleId, secret_id: kept.secretId });
  const raw = (method: string, path: string, body?: object) =>
    own.request({ method, path: `/${path}`, ...(body === undefined ? {} : { json: body }) });
  return { name, identity, vault: driver, raw };
}

async function exchange(asked: { uri: string; method: string; headers?: Record<string, string>; json?: unknown }) {
  const body = typeof asked.json === "object" ? { body: JSON.stringify(asked.json) } : {};
  const response = await fetch(asked.uri, { method: asked.method, headers: { ...asked.headers }, ...body });
  const text = await response.text();
  return { statusCode: response.status, body: text === "" ? {} : JSON.parse(text), request: { path: asked.uri } };
}

const sealerOf = ({ calls }: Vault, swarm: string) => textSealer(calls, { mount: "transit", key: ipsecKey(swarm) });

const fresh = () => {
  attempt += 1;
  return `attempt-${attempt}`;
};
const others = ({ name }: Caller): readonly VaultProcess[] => VAULT_PROCESSES.filter((process) => process !== name);

/** By the rows of the table. Each must be refused in all its parts where it is not allowed. */
const ACTIONS: Readonly<Record<string, (caller: Caller) => readonly (() => Promise<unknown>)[]>> = {
  "read the keys of the own swarm": ({ vault: { kv } }) => [() => kv.read({ path: "swarms/lab/wireguard", version: 1 })],
  "read the keys of another swarm": ({ vault: { kv } }) => [() => kv.read({ path: "swarms/other/wireguard", version: 1 })],
  "read a client's preshared key": ({ vault: { kv } }) => [() => kv.read({ path: "swarms/lab/peers/c", version: 1 })],
  "write a version of a key": ({ vault: { kv } }) => [() => kv.write(`swarms/lab/peers/${fresh()}`, { presharedKey: "x" })],
  "list versions": ({ vault: { kv } }) => [() => kv.metadata("swarms/lab/wireguard")],
  "destroy a version": ({ vault: { kv } }) => [() => kv.destroy("swarms/other/wireguard", [99])],
  "seal session state": ({ vault: { calls } }) => [
    () => calls.post("transit/encrypt/sessions", { plaintext: "eA==" }),
    () => calls.post("transit/datakey/plaintext/sessions", {}),
  ],
  "open session state": ({ vault: { calls } }) => [
    () => calls.post("transit/decrypt/sessions", { ciphertext: things.sessions }),
  ],
  "seal keys of IPsec SAs": (each) => [() => sealerOf(each.vault, "lab").seal([{ context: "ep-1 out 256", value: "key" }])],
  "open keys of IPsec SAs": (each) => [
    () => sealerOf(each.vault, "lab").open([{ context: "ep-1 out 256", value: things.ipsec }]),
  ],
  "seal or open those of another swarm": ({ vault: own }) => [
    () => sealerOf(own, "other").seal([{ context: "ep-1 out 256", value: "key" }]),
    () => sealerOf(own, "other").open([{ context: "ep-1 out 256", value: things.ipsec }]),
  ],
  "seal payloads": ({ vault: { calls } }) => [() => calls.post("transit/datakey/plaintext/payloads", {})],
  "open payloads": ({ vault: { calls } }) => [() => calls.post("transit/decrypt/payloads", { ciphertext: things.payloads })],
  rewrap: ({ vault: { calls } }) => [() => calls.post("transit/rewrap/sessions", { ciphertext: things.sessions })],
  "rotate a transit key": ({ vault: { calls } }) => [
    () => calls.get("transit/keys/payloads"),
    () => calls.post("transit/keys/payloads/rotate", {}),
    () => calls.post("transit/keys/payloads/config", { min_decryption_version: 1 }),
  ],
  "export or delete a transit key": ({ raw }) => [
    () => raw("GET", "transit/export/encryption-key/sessions"),
    () => raw("DELETE", "transit/keys/sessions"),
    () => raw("GET", "transit/backup/sessions"),
    () => raw("POST", "transit/keys/sessions/config", { exportable: true }),
    () => raw("POST", "transit/keys/sessions/config", { deletion_allowed: true }),
  ],
  "get a certificate for itself": ({ vault: { pki }, identity }) => [() => pki.issue({ identity, ttlMs: 60_000 })],
  "get a certificate for another": (caller) => [
    ...others(caller).map((other) => () => caller.vault.pki.issue({ identity: processIdentity(other), ttlMs: 60_000 })),
    () => caller.vault.pki.issue({ identity: agentIdentity("lab", "ep-2"), ttlMs: 60_000 }),
    () => caller.raw("POST", "foreshift-pki/issue/process", { common_name: "control" }),
    () => caller.raw("POST", "foreshift-pki/sign-verbatim", { csr: "x" }),
  ],
  "revoke a certificate": ({ vault: { pki } }) => [() => pki.revoke(things.serials.at(-1) ?? "")],
  "see which certificates there are": ({ vault: { pki }, identity }) => [() => pki.serialsOf(identity)],
  "renew the revocation list": ({ vault: { pki } }) => [() => pki.renewCrl()],
  "sign an authority, change who gets certificates": ({ raw }) => [
    () => raw("POST", "foreshift-pki-root/root/sign-intermediate", { csr: "x" }),
    () => raw("POST", "foreshift-pki/roles/process", { allow_any_name: true }),
    () => raw("POST", "foreshift-pki/root/generate/internal", { common_name: "x" }),
    () => raw("POST", "foreshift-pki/config/crl", { disable: true }),
  ],
  "get a wrapped secret-id of a process": (caller) => [() => caller.vault.appRoles.forProcess(others(caller)[0] ?? "control")],
  "get an open secret-id of another": (caller) => [
    ...others(caller).map((other) => () => caller.raw("POST", `auth/foreshift/role/${other}/secret-id`, {})),
    () => caller.raw("POST", "auth/foreshift-agents/role/lab.ep-2/secret-id", {}),
  ],
  "enrol an agent": ({ vault: { appRoles } }) => [() => appRoles.enrolAgent({ swarm: "lab", endpoint: fresh() })],
  "end an agent's login": ({ vault: { appRoles } }) => [() => appRoles.dismissAgent({ swarm: "lab", endpoint: "attempt-1" })],
  "make an agent's tokens worthless": ({ vault: { appRoles }, raw }) => [
    () => appRoles.disownAgent({ swarm: "lab", endpoint: "attempt-1" }),
    () => raw("DELETE", "identity/entity/id/attempt-1"),
  ],
  "enrol an agent with more rights": ({ raw }) => [
    () => raw("POST", `auth/foreshift-agents/role/lab.${fresh()}`, { token_policies: "foreshift-control" }),
    () =>
      raw("POST", `auth/foreshift-agents/role/lab.${fresh()}`, { token_policies: "foreshift-agent-lab,foreshift-self,root" }),
    () => raw("POST", `auth/foreshift-agents/role/lab.${fresh()}`, { policies: "foreshift-control" }),
    () => raw("POST", "auth/foreshift-agents/role/lab.ep-1/policies", { token_policies: "foreshift-control" }),
    () => raw("POST", `auth/foreshift/role/${fresh()}`, { token_policies: "foreshift-agent-lab,foreshift-self" }),
    () => raw("POST", `auth/foreshift-agents/role/lab.${fresh()}`, { bind_secret_id: false }),
  ],
  "change policies, logins, seal": ({ raw }) => [
    () => raw("PUT", "sys/policies/acl/foreshift-self", { policy: 'path "*" { capabilities = ["sudo"] }' }),
    () => raw("GET", "sys/policies/acl/foreshift-self"),
    () => raw("POST", "sys/auth/other", { type: "approle" }),
    () => raw("POST", "auth/token/create", { policies: ["root"] }),
    () => raw("GET", "identity/entity/name?list=true"),
    () => raw("PUT", "sys/seal"),
    () => raw("GET", "sys/raw/core/keyring"),
  ],
};

/** What the table says: actions, and who may do each. */
async function documented(): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
  const text = await readFile(join(import.meta.dirname, "..", "..", "docs", "security.md"), "utf8");
  const section = text.split("## What each process may do in Vault")[1]?.split("\n## ")[0] ?? "";
  const rows = section.split("\n").filter((line) => line.startsWith("|"));
  const cells = (row: string) =>
    row
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim());
  const [, ...names] = cells(rows[0] ?? "");
  assert.deepEqual(names, [...VAULT_PROCESSES, "agent"]);
  return new Map(
    rows.slice(2).map((row) => {
      const [action = "", ...marks] = cells(row);
      assert.ok(
        marks.every((mark) => mark === "yes" || mark === ""),
        row,
      );
      return [action, new Set(names.filter((_, at) => marks[at] === "yes"))];
    }),
  );
}

test("a key of an IPsec SA opens as that SA's alone, and what does not open keeps nothing else from it", async () => {
  const agent = callers.find(({ name }) => name === "agent");
  assert.ok(agent !== undefined);
  const sealer = sealerOf(agent.vault, "lab");
  const [one = "", other = ""] = await sealer.seal([
    { context: "ep-1 out 256", value: "first" },
    { context: "ep-1 in 257", value: "second" },
  ]);
  assert.deepEqual(
    await sealer.open([
      { context: "ep-1 out 256", value: one },
      { context: "ep-1 out 256", value: other },
      { context: "ep-1 in 257", value: other },
    ]),
    ["first", undefined, "second"],
  );
  assert.deepEqual(await sealer.open([{ context: "ep-2 out 256", value: one }]), [undefined]);
});

test("the table names every action that is tried, and no other", async () => {
  assert.deepEqual([...(await documented()).keys()], Object.keys(ACTIONS));
});

for (const action of Object.keys(ACTIONS)) {
  test(`${action}: by those the table says, by nobody else`, async () => {
    const allowed = (await documented()).get(action) ?? new Set();
    for (const each of callers) {
      if (action === "revoke a certificate")
        things.serials.push((await each.vault.pki.issue({ identity: each.identity, ttlMs: 60_000 })).serial);
      for (const part of ACTIONS[action]?.(each) ?? []) {
        const refused = await part().then(
          () => false,
          (thrown: unknown) => isRefusal(thrown),
        );
        assert.equal(refused, !allowed.has(each.name), `${each.name}: ${part.toString()}`);
      }
    }
  });
}

/** Refused for lack of rights, or (a certificate's name) because the name is not the asker's. Anything else is a defect of the test. */
function isRefusal(thrown: unknown): boolean {
  if (thrown instanceof ForeshiftError) {
    const foreign = thrown.code === "INVALID_FIELD" && String(thrown.value).startsWith("a certificate for ");
    assert.ok(thrown.code === "UNAUTHORISED" || foreign, thrown.message);
    return true;
  }
  const status = (thrown as { response?: { statusCode?: number } }).response?.statusCode;
  assert.equal(status, 403, String(thrown));
  return true;
}
