// Logins that have no real counterpart here, Kubernetes and AWS, and answers that a real Vault seldom gives: against a made-up server.
import assert from "node:assert/strict";
import { createHash, createHmac } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { signedCallerIdentity } from "../../drivers/vault/aws-identity.ts";
import type { VaultOptions } from "../../drivers/vault/config.ts";
import { openVault, type Vault } from "../../drivers/vault/vault.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import { giveRole, startMetadata } from "../support/aws/metadata.ts";

interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: Record<string, string>;
}

let server: Server;
let address: string;
let folder: string;
let asked: Asked[] = [];
let answer: (request: Asked) => { status: number; body: string };
const vaults: Vault[] = [];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "fs-logins-"));
  server = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk) => (text += chunk));
    request.on("end", () => {
      const body = text === "" ? {} : (JSON.parse(text) as Record<string, string>);
      const one = { method: request.method ?? "", path: request.url ?? "", headers: request.headers, body };
      asked.push(one);
      const { status, body: said } = answer(one);
      response.writeHead(status, { "content-type": "application/json" }).end(said);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

beforeEach(() => {
  asked = [];
  answer = ({ path }) =>
    path.endsWith("/login")
      ? ok({ auth: { client_token: "t-1", lease_duration: 3_600 } })
      : ok({ data: { data: { privateKey: "k" }, ttl: 60 } });
});

after(async () => {
  await Promise.all(vaults.map((vault) => vault.close()));
  server.close();
  server.closeAllConnections();
  await rm(folder, { recursive: true, force: true });
});

const ok = (body: object) => ({ status: 200, body: JSON.stringify(body) });
function open(options: Pick<VaultOptions, "auth"> & Partial<VaultOptions>): Vault {
  const vault = openVault({ address, ...options });
  vaults.push(vault);
  return vault;
}
const REF = { path: "swarms/lab/wireguard", version: 2 };

test("Kubernetes: the service account's token and the role go to the login; namespace and mounts are as configured", async () => {
  const jwtFile = join(folder, "jwt");
  await writeFile(jwtFile, "header.payload.signature\n");
  const auth = { method: "kubernetes", role: "collector", mount: "k8s-eu", jwtFile } as const;
  const vault = open({ auth, namespace: "net/edge", mounts: { kv: "secrets/foreshift" } });
  assert.deepEqual(await vault.kv.read(REF), { privateKey: "k" });
  const [login, read] = asked;
  assert.deepEqual([login?.method, login?.path], ["POST", "/v1/auth/k8s-eu/login"]);
  assert.deepEqual(login?.body, { role: "collector", jwt: "header.payload.signature" });
  assert.equal(login?.headers["x-vault-token"], undefined);
  assert.deepEqual([read?.method, read?.path], ["GET", "/v1/secrets/foreshift/data/swarms/lab/wireguard?version=2"]);
  assert.equal(read?.headers["x-vault-token"], "t-1");
  assert.ok(asked.every(({ headers }) => headers["x-vault-namespace"] === "net/edge"));
});

test("AWS: a signed question to STS goes to the login, and the secret access key does not", async () => {
  const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
  process.env["AWS_ACCESS_KEY_ID"] = "AKIDEXAMPLE";
  process.env["AWS_SECRET_ACCESS_KEY"] = secret;
  try {
    const auth = { method: "aws", role: "agent", region: "eu-central-1", serverId: "vault.example.com" } as const;
    await open({ auth }).kv.read(REF);
  } finally {
    delete process.env["AWS_ACCESS_KEY_ID"];
    delete process.env["AWS_SECRET_ACCESS_KEY"];
  }
  const [login] = asked;
  assert.equal(login?.path, "/v1/auth/aws/login");
  assert.ok(!JSON.stringify(asked).includes(secret));
  assert.equal(login?.body["role"], "agent");
  const decoded = (field: string) => Buffer.from(login?.body[field] ?? "", "base64").toString();
  assert.equal(decoded("iam_request_url"), "https://sts.eu-central-1.amazonaws.com/");
  assert.equal(decoded("iam_request_body"), "Action=GetCallerIdentity&Version=2011-06-15");
  const headers = JSON.parse(decoded("iam_request_headers")) as Record<string, string>;
  assert.equal(headers["x-vault-aws-iam-server-id"], "vault.example.com");
});

test("AWS: the signature is that of the published scheme", () => {
  const credentials = { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "secret", sessionToken: "session" };
  const now = new Date("2026-11-21T08:09:10.123Z");
  const fields = signedCallerIdentity({ credentials, region: "us-east-1", now });
  const headers = JSON.parse(Buffer.from(fields["iam_request_headers"] ?? "", "base64").toString()) as Record<string, string>;
  // Written out step by step, as the reference describes it.
  const hash = (text: string) => createHash("sha256").update(text).digest("hex");
  const mac = (key: Buffer | string, text: string) => createHmac("sha256", key).update(text).digest();
  const signed = "content-type;host;x-amz-date;x-amz-security-token";
  const canonical = [
    "POST",
    "/",
    "",
    "content-type:application/x-www-form-urlencoded; charset=utf-8",
    "host:sts.us-east-1.amazonaws.com",
    "x-amz-date:20261121T080910Z",
    "x-amz-security-token:session",
    "",
    signed,
    hash("Action=GetCallerIdentity&Version=2011-06-15"),
  ].join("\n");
  const scope = "20261121/us-east-1/sts/aws4_request";
  const key = mac(mac(mac(mac("AWS4secret", "20261121"), "us-east-1"), "sts"), "aws4_request");
  const signature = mac(key, ["AWS4-HMAC-SHA256", "20261121T080910Z", scope, hash(canonical)].join("\n")).toString("hex");
  assert.equal(
    headers["authorization"],
    `AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/${scope}, SignedHeaders=${signed}, Signature=${signature}`,
  );
});

test("AWS: without keys in the environment those of the instance's role sign, asked for anew with each login", async () => {
  const metadata = await startMetadata();
  try {
    const auth = { method: "aws", role: "agent", region: "eu-central-1", metadataUrl: metadata.url } as const;
    const { kv } = open({ auth });
    await assert.rejects(kv.read(REF), /the instance has no role; give it an instance profile/);
    metadata.texts.set("meta-data/iam/security-credentials/", "foreshift-eu");
    await assert.rejects(kv.read(REF), (error: ForeshiftError) => error.code === "NOT_READY" && error.retryable);
    assert.equal(asked.length, 0);

    const signedWith = async (AccessKeyId: string, Token: string) => {
      giveRole(metadata, "foreshift-eu", { AccessKeyId, SecretAccessKey: "wJalrXUtnFEMI", Token });
      await kv.read(REF);
      const login = asked.findLast(({ path }) => path.endsWith("/login"));
      const headers = Buffer.from(login?.body["iam_request_headers"] ?? "", "base64").toString();
      const { authorization = "", "x-amz-security-token": token } = JSON.parse(headers) as Record<string, string>;
      assert.equal(token, Token);
      assert.match(authorization, new RegExp(`Credential=${AccessKeyId}/.*x-amz-security-token`));
    };
    await signedWith("ASIAFIRST", "session-1");
    // Vault has forgotten the token, and EC2 has other keys by then.
    answer = ({ headers, path }) => {
      if (path.endsWith("/login")) return ok({ auth: { client_token: "t-2", lease_duration: 3_600 } });
      return headers["x-vault-token"] === "t-1" ? { status: 403, body: "{}" } : ok({ data: { data: { privateKey: "k" } } });
    };
    await signedWith("ASIASECOND", "session-2");
    assert.ok(!JSON.stringify(asked).includes("wJalrXUtnFEMI"));

    await metadata.close();
    const away = open({ auth }).kv.read(REF);
    await assert.rejects(away, (error: ForeshiftError) => error.code === "UNREACHABLE" && error.retryable);
  } finally {
    await metadata.close().catch(() => undefined);
  }
});

test("429, 500, 502, garbage and a wrong shape may pass; 400, 403 and 404 do not; nothing that was said is shown", async () => {
  const tokenFile = join(folder, "token");
  await writeFile(tokenFile, "t");
  const { kv } = open({ auth: { method: "token-file", tokenFile } });
  const canary = "c2VjcmV0";
  const expected = [
    [429, "{}", "NOT_READY", true],
    [500, canary, "UNREACHABLE", true],
    [502, "<html>", "UNREACHABLE", true],
    [503, '{"errors":["Vault is sealed"]}', "NOT_READY", true],
    [200, canary, "UNREACHABLE", true],
    [200, JSON.stringify({ data: { data: { a: { b: canary } } } }), "UNREACHABLE", true],
    [200, "", "UNREACHABLE", true],
    [400, '{"errors":["bad"]}', "INVALID_FIELD", false],
    [403, "{}", "UNAUTHORISED", false],
    [404, "{}", "INVALID_FIELD", false],
  ] as const;
  for (const [status, body, code, retryable] of expected) {
    answer = () => ({ status, body });
    await assert.rejects(kv.read(REF), (error: ForeshiftError) => {
      assert.deepEqual([error.code, error.retryable], [code, retryable], `${status} ${body}: ${error.message}`);
      assert.ok(!error.message.includes(canary));
      return true;
    });
  }
});
