// How the environment says in which way a Temporal of one's own is reached: as Temporal's own tools read it.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { temporalSecurity } from "../../setup/temporal-security.ts";

const folder = mkdtempSync(join(tmpdir(), "foreshift-tls-"));
const file = (name: string) => join(folder, name);
for (const name of ["ca", "cert", "key"]) writeFileSync(file(name), name);

after(() => rmSync(folder, { recursive: true }));

const [ca, crt, key] = ["ca", "cert", "key"].map((name) => Buffer.from(name));

for (const [env, security] of [
  [{}, {}],
  [{ TEMPORAL_TLS: "false", TEMPORAL_API_KEY: "" }, {}],
  [{ TEMPORAL_TLS: "true" }, { tls: {} }],
  [{ TEMPORAL_API_KEY: "k" }, { apiKey: "k", tls: {} }],
  [{ TEMPORAL_TLS_CA: file("ca") }, { tls: { serverRootCACertificate: ca } }],
  [{ TEMPORAL_TLS_CERT: file("cert"), TEMPORAL_TLS_KEY: file("key") }, { tls: { clientCertPair: { crt, key } } }],
] as const) {
  test(`${Object.keys(env).join(" and ") || "nothing"} set, ${Object.keys(security).join(" and ") || "nothing"} asked for`, async () => {
    assert.deepEqual(await temporalSecurity(env), security);
  });
}

for (const [env, field, detail] of [
  [{ TEMPORAL_TLS_CERT: file("cert") }, "TEMPORAL_TLS_KEY", /set both or neither/],
  [{ TEMPORAL_TLS_KEY: file("key") }, "TEMPORAL_TLS_CERT", /set both or neither/],
  [{ TEMPORAL_TLS_CA: file("nowhere") }, "TEMPORAL_TLS_CA", /there is no such file/],
] as const) {
  test(`${Object.keys(env).join()} alone or astray: ${field} is named`, async () => {
    await assert.rejects(temporalSecurity(env), { code: "INVALID_FIELD", field, message: detail });
  });
}
