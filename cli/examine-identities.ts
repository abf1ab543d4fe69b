/**
 * The identities of the processes on this machine, as `foreshift doctor` looks at them: their certificates and revocation lists on disk, this
 * person's own login at Vault, and the clock. Changes nothing but that login's secret-id, as every command does.
 */
import { X509Certificate } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { request } from "undici";
import { certificatesOf, verifiedCrl } from "../drivers/identity/authority.ts";
import { VaultConfig } from "../drivers/vault/config.ts";
import { wayTo } from "../drivers/vault/transport.ts";
import { openVault } from "../drivers/vault/vault.ts";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { certificateFinding, clockFinding, crlFinding, type Finding } from "../models/identity-health.ts";
import { LIMITS } from "../models/limits.ts";
import type { Connection } from "../setup/connection.ts";
import type { Check } from "../setup/examine.ts";

/** Of the lab that runs, or of whatever wrote the connection; none where processes have no certificates. */
export async function examineIdentities(found: Connection): Promise<readonly Check[]> {
  const { identityDir, payloads } = found;
  const checks = identityDir === undefined ? [] : await examineFolder(dirname(identityDir), Date.now());
  const vault = payloads.mode === "sealed" ? VaultConfig.safeParse(payloads["vault"]) : undefined;
  if (vault?.success !== true) return checks;
  return [...checks, await loginCheck(vault.data), ...(await clockChecks(vault.data))];
}

/** One folder for each process; those without a certificate yet are left out. */
export async function examineFolder(folder: string, nowMs: number): Promise<readonly Check[]> {
  const names: string[] = await readdir(folder).catch(() => []);
  names.sort();
  return (await Promise.all(names.map((name) => examineProcess(join(folder, name), name, nowMs)))).flat();
}

async function examineProcess(dir: string, name: string, nowMs: number): Promise<readonly Check[]> {
  const text = await readFile(join(dir, "identity.json"), "utf8").catch(() => undefined);
  if (text === undefined) return [];
  const purpose = `says who ${name} is`;
  let stored: { certificate: string; chain: string; root: string; issuedAtMs: number };
  try {
    stored = JSON.parse(text) as typeof stored;
    const notAfterMs = Date.parse(new X509Certificate(stored.certificate).validTo);
    const finding = certificateFinding({ issuedAtMs: stored.issuedAtMs, notAfterMs }, nowMs);
    const crl = await heldCrl(join(dir, "crl.der"), `${stored.chain}\n${stored.root}`);
    return [
      asCheck(`${name} certificate`, purpose, finding),
      asCheck(`${name} revocations`, "keeps revoked ones out", crlFinding(crl, nowMs)),
    ];
  } catch {
    const remedy = `Remove ${join(dir, "identity.json")} and start ${name} anew: it gets another certificate.`;
    return [asCheck(`${name} certificate`, purpose, { state: "missing", text: "its file holds no certificate", remedy })];
  }
}

async function heldCrl(file: string, authorities: string) {
  try {
    return verifiedCrl(await readFile(file), certificatesOf(authorities));
  } catch {
    return undefined;
  }
}

async function loginCheck(config: VaultConfig): Promise<Check> {
  const purpose = "opens what Temporal holds";
  const vault = openVault(config);
  try {
    await vault.renewToken();
    return asCheck("login at Vault", purpose, { state: "ok", text: `by ${config.auth.method}` });
  } catch (thrown) {
    const remedy = thrown instanceof ForeshiftError ? thrown.remedy : "Look whether Vault runs and is unsealed.";
    return asCheck("login at Vault", purpose, { state: "missing", text: messageOf(thrown), remedy });
  } finally {
    await vault.close();
  }
}

/** Vault's clock is the one that certificates begin and end by. Its answers name it by the second. */
async function clockChecks(config: VaultConfig): Promise<readonly Check[]> {
  const timeoutMs = LIMITS.vault.callTimeoutMs;
  const { dispatcher, origin } = wayTo(config, timeoutMs);
  try {
    const sentAtMs = Date.now();
    const { body, headers } = await request(`${origin}/v1/sys/health`, { dispatcher, signal: AbortSignal.timeout(timeoutMs) });
    await body.dump();
    const receivedAtMs = Date.now();
    const saidMs = Date.parse(String(headers.date));
    if (Number.isNaN(saidMs)) return [];
    const doubtMs = SECOND_MS / 2 + (receivedAtMs - sentAtMs) / 2;
    const offsetMs = (sentAtMs + receivedAtMs) / 2 - (saidMs + SECOND_MS / 2);
    return [asCheck("clock", "certificates begin and end by it", clockFinding(offsetMs, doubtMs))];
  } catch {
    // The login has said that Vault is away.
    return [];
  } finally {
    await dispatcher.destroy();
  }
}

const SECOND_MS = 1_000;

function asCheck(name: string, purpose: string, { remedy, state, text }: Finding): Check {
  return { name, purpose, state, source: "identity", where: text, ...(remedy === undefined ? {} : { remedy }) };
}
