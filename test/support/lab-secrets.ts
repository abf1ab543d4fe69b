/** Every secret of a lab, for the search of where one could have leaked to; and that such a search would find one. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openDataKeyRegistry } from "../../drivers/store/data-keys.ts";
import { openTransit } from "../../drivers/vault/transit.ts";
import { openVault, type Vault } from "../../drivers/vault/vault.ts";
import { connectionFile } from "../../setup/connection.ts";
import { crashFiles, LeakScan, type Secret } from "./leak-scan.ts";

export async function databaseUrl(home: string): Promise<string> {
  return (JSON.parse(await readFile(connectionFile(home), "utf8")) as { databaseUrl: string }).databaseUrl;
}

/**
 * The lab's own secrets, taken from the vault as its administrator; `kept` names the files in which one may lie. Of `clients` one was put out.
 */
export async function secretsOf(home: string, clients: number) {
  const keysFile = join("openbao", "keys.json");
  const { rootToken, unsealKey } = JSON.parse(await readFile(join(home, keysFile), "utf8")) as Record<string, string>;
  assert.ok(rootToken !== undefined && unsealKey !== undefined);
  const tokenFile = join("config", "operator-token");
  const operatorToken = (await readFile(join(home, tokenFile), "utf8")).trim();
  const rootFile = join(home, "root-token");
  await writeFile(rootFile, rootToken, { mode: 0o600 });
  const port = (await readFile(join(home, "ports", "openbao"), "utf8")).trim();
  const vault = openVault({ address: `http://127.0.0.1:${port}`, auth: { method: "token-file", tokenFile: rootFile } });
  const registry = openDataKeyRegistry({ databaseUrl: await databaseUrl(home) });
  try {
    const { privateKey = "" } = await vault.kv.read({ path: "swarms/lab/wireguard", version: 1 });
    const transit = openTransit(vault.calls, { mount: "transit", key: "payloads" });
    const { latest } = await transit.versions();
    const dataKeys = await registry.olderThan(latest + 1, 1_000);
    assert.ok(dataKeys.length >= 2, "control worker and command line have sealed with keys of their own");
    const opened = await Promise.all(
      dataKeys.map(async ({ id, wrapped }) => ({ name: `data key ${id}`, value: await transit.unwrap(wrapped) })),
    );
    const presharedPaths = await vault.kv.list("swarms/lab/peers");
    const preshared = await Promise.all(
      presharedPaths.map(async (name) => {
        const path = `swarms/lab/peers/${name}`;
        // Of a client that was put out, and of a rotation that is over, every version is destroyed.
        const living = (await vault.kv.metadata(path)).versions.filter(({ destroyed }) => !destroyed);
        const keys = await Promise.all(living.map(({ version }) => vault.kv.read({ path, version })));
        return keys.map(({ presharedKey = "" }) => ({
          name: `preshared key ${name}`,
          value: Buffer.from(presharedKey, "base64"),
        }));
      }),
    );
    assert.ok(preshared.flat().length > 0, "clients have preshared keys by now");
    const secrets: Secret[] = [
      { name: "swarm key", value: Buffer.from(privateKey, "base64") },
      ...(await presharedKeys(vault, clients)),
      { name: "unseal key", value: unsealKey },
      { name: "root token", value: rootToken },
      { name: "operator token", value: operatorToken },
      { name: "database password", value: new URL(await databaseUrl(home)).password },
      ...opened,
      ...preshared.flat(),
    ];
    const kept = new Map([
      ["unseal key", /^openbao\/keys\.json$/],
      ["root token", /^openbao\/keys\.json$/],
      ["operator token", /^config\/operator-token$/],
      // The one secret that the processes' own files hold, and where set-up keeps it.
      ["database password", /^(config\/\w+\.json|postgres\.password)$/],
    ]);
    return { scan: new LeakScan(secrets), kept };
  } finally {
    await Promise.all([vault.close(), registry.close()]);
    await rm(rootFile);
  }
}

/** Of the clients that were rotated, but for the one that is out, whose keys are destroyed. */
async function presharedKeys({ kv }: Vault, clients: number): Promise<readonly Secret[]> {
  const ids = await kv.list("swarms/lab/peers");
  const found = ids.map(async (id): Promise<readonly Secret[]> => {
    const path = `swarms/lab/peers/${id}`;
    const { currentVersion: version, versions } = await kv.metadata(path);
    if (versions.every(({ destroyed }) => destroyed)) return [];
    const { presharedKey = "" } = await kv.read({ path, version });
    return [{ name: `preshared key ${id}`, value: Buffer.from(presharedKey, "base64") }];
  });
  const secrets = (await Promise.all(found)).flat();
  assert.equal(secrets.length, clients - 1);
  return secrets;
}

/** A scan that finds nothing must be one that would: leaks are planted, and found. */
export async function assertScanFinds(scan: LeakScan, home: string): Promise<void> {
  const secret = (await readFile(join(home, "config", "operator-token"), "utf8")).trim();
  const planted = join(home, "log", "core.4711");
  await writeFile(planted, `{"event":"oops","token":"${Buffer.from(`x${secret}`).toString("base64")}"}\n`, { mode: 0o644 });
  const child = spawn("sleep", ["60"], { env: { OOPS: secret }, stdio: "ignore" });
  try {
    assert.deepEqual(await crashFiles(join(home, "log")), [planted]);
    const found = [...(await scan.files(join(home, "log"))), ...(await scan.processes())].map(({ place }) => place);
    assert.ok(found.includes(planted) && found.includes(`environ of process ${child.pid}`), found.join());
  } finally {
    child.kill("SIGKILL");
    await rm(planted);
  }
}
