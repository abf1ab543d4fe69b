// The secret store against a real OpenBao, over TCP and over a unix socket.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openVault, type SecretStore } from "../../drivers/vault/vault.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import type { OpenBaoService } from "../../setup/services.ts";
import { type TestHome, testHome, testOpenBao } from "../support/services.ts";

let where: TestHome;
let bao: OpenBaoService;
let ways: readonly (readonly [name: string, store: SecretStore])[];

before(async () => {
  where = await testHome();
  bao = await testOpenBao(where);
  const { tokenFile, address, socket } = bao;
  assert.ok(socket !== undefined);
  ways = [
    ["tcp", openVault({ address, tokenFile, mount: "foreshift" })],
    ["unix socket", openVault({ socketPath: socket, tokenFile, mount: "foreshift" })],
  ];
});

after(async () => {
  for (const [, store] of ways ?? []) await store.close();
  await bao?.stop();
  await where?.remove();
});

const codeIs = (code: string) => (error: ForeshiftError) => {
  assert.equal(error.code, code, error.message);
  assert.ok(!error.message.includes("c2VjcmV0"));
  return true;
};

test("each write is a further version, and each version is read by its reference", async () => {
  for (const [name, store] of ways) {
    const path = `test/${name.replace(" ", "-")}`;
    const first = await store.write(path, { privateKey: "c2VjcmV0MQ==" });
    const second = await store.write(path, { privateKey: "c2VjcmV0Mg==" });
    assert.deepEqual(
      [first, second],
      [
        { path, version: 1 },
        { path, version: 2 },
      ],
    );
    assert.deepEqual(await store.read(first), { privateKey: "c2VjcmV0MQ==" });
    assert.deepEqual(await store.read(second), { privateKey: "c2VjcmV0Mg==" });
  }
});

test("what is not there, and a token that is not good, are told apart", async () => {
  for (const [, store] of ways) {
    await assert.rejects(store.read({ path: "test/nowhere", version: 1 }), codeIs("INVALID_FIELD"));
    await store.write("test/few", { a: "c2VjcmV0" });
    await assert.rejects(store.read({ path: "test/few", version: 99 }), codeIs("INVALID_FIELD"));
  }
  const stranger = openVault({ address: bao.address, token: "wrong", mount: "foreshift" });
  await assert.rejects(stranger.read({ path: "test/few", version: 1 }), codeIs("UNAUTHORISED"));
  await stranger.close();
  const tokenless = openVault({ address: bao.address, tokenFile: join(where.home, "absent"), mount: "foreshift" });
  await assert.rejects(tokenless.read({ path: "test/few", version: 1 }), codeIs("UNAUTHORISED"));
  await tokenless.close();
  const elsewhere = openVault({ socketPath: join(where.run, "no.sock"), token: "x", mount: "foreshift" });
  await assert.rejects(elsewhere.read({ path: "test/few", version: 1 }), codeIs("UNREACHABLE"));
  await elsewhere.close();
});

test("a renewed token file is taken up without a restart", async () => {
  const tokenFile = join(where.home, "renewed");
  await writeFile(tokenFile, "wrong\n", { mode: 0o600 });
  const store = openVault({ address: bao.address, tokenFile, mount: "foreshift" });
  await assert.rejects(store.read({ path: "test/few", version: 1 }), codeIs("UNAUTHORISED"));
  await writeFile(tokenFile, await readFile(bao.tokenFile));
  assert.deepEqual(await store.read({ path: "test/few", version: 1 }), { a: "c2VjcmV0" });
  await store.close();
});

test("a token that can be renewed lives its full time again; one that cannot says how long it has", async () => {
  const made = async (body: object) => {
    const token = (await readFile(bao.tokenFile, "utf8")).trim();
    const response = await fetch(`${bao.address}/v1/auth/token/create`, {
      method: "POST",
      headers: { "x-vault-token": token },
      body: JSON.stringify({ policies: ["foreshift-agent"], no_default_policy: true, ...body }),
    });
    const { auth } = (await response.json()) as { auth: { client_token: string } };
    return openVault({ address: bao.address, token: auth.client_token, mount: "foreshift" });
  };
  const periodic = await made({ period: "60s" });
  await new Promise((resolve) => setTimeout(resolve, 2_100));
  assert.equal(await periodic.renewToken(), 60_000);
  await periodic.close();
  const fixed = await made({ ttl: "60s", renewable: false });
  await new Promise((resolve) => setTimeout(resolve, 2_100));
  const leftMs = (await fixed.renewToken()) ?? 0;
  assert.ok(leftMs > 0 && leftMs < 60_000, `${leftMs} ms`);
  await fixed.close();
  const wrong = openVault({ address: bao.address, token: "wrong", mount: "foreshift" });
  await assert.rejects(wrong.renewToken(), codeIs("UNAUTHORISED"));
  await wrong.close();
});
