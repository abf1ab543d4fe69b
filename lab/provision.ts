/**
 * What the lab needs in Vault before the first machine boots: the swarm's static key pair, and a token that reads it and no more.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { readFile } from "node:fs/promises";
import vault from "node-vault";
import { openVault } from "../drivers/vault/vault.ts";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import type { SecretRef } from "../models/session.ts";
import { writePrivateFile } from "./files.ts";
import { LAB_KEY_PATH, LAB_SWARM } from "./spec.ts";

export const VAULT_MOUNT = "foreshift";

export interface Provisioned {
  readonly secret: SecretRef;
  /** Base64, as `wg pubkey` prints it. */
  readonly publicKey: string;
}

export interface VaultAccess {
  readonly address: string;
  /** File that holds the token of somebody who may write secrets, policies and tokens. */
  readonly tokenFile: string;
}

/** Makes the key pair once; later calls find it. The agents' token is written to `agentTokenFile` (mode 0600). */
export async function provision(access: VaultAccess, agentTokenFile: string): Promise<Provisioned> {
  const token = (await readFile(access.tokenFile, "utf8")).trim();
  const store = openVault({ address: access.address, token, mount: VAULT_MOUNT });
  try {
    const provisioned = await keyPair(store);
    await writePrivateFile(agentTokenFile, await agentToken(access.address, token));
    return provisioned;
  } finally {
    await store.close();
  }
}

async function keyPair(store: ReturnType<typeof openVault>): Promise<Provisioned> {
  const first = { path: LAB_KEY_PATH, version: 1 };
  try {
    const { privateKey } = await store.read(first);
    if (privateKey !== undefined) return { secret: first, publicKey: publicKeyOf(privateKey) };
  } catch (thrown) {
    if (!(thrown instanceof ForeshiftError) || thrown.retryable) throw thrown;
  }
  const { privateKey } = generateKeyPairSync("x25519");
  const raw = rawKey(privateKey, "d");
  return { secret: await store.write(LAB_KEY_PATH, { privateKey: raw }), publicKey: publicKeyOf(raw) };
}

/** A token whose only policy is to read the lab's secrets. */
async function agentToken(address: string, token: string): Promise<string> {
  const client = vault({ endpoint: address, token, debug: () => undefined, requestOptions: { timeout: LIMITS.lab.vaultTimeoutMs } });
  const policy = `${LAB_SWARM}-agent`;
  try {
    await client.addPolicy({
      name: policy,
      rules: `path "${VAULT_MOUNT}/data/swarms/${LAB_SWARM}/*" { capabilities = ["read"] }`,
    });
    const answer = (await client.tokenCreate({ policies: [policy], no_default_policy: true, period: "24h" })) as {
      auth: { client_token: string };
    };
    return answer.auth.client_token;
  } catch (thrown) {
    throw new ForeshiftError("UNAUTHORISED", { field: "Vault", detail: messageOf(thrown) });
  }
}

function publicKeyOf(privateKeyBase64: string): string {
  // PKCS#8 header of an X25519 private key (RFC 8410), followed by the 32 bytes.
  const header = Buffer.from("302e020100300506032b656e04220420", "hex");
  const key = createPrivateKey({ key: Buffer.concat([header, Buffer.from(privateKeyBase64, "base64")]), format: "der", type: "pkcs8" });
  return rawKey(createPublicKey(key), "x");
}

function rawKey(key: KeyObject, part: "d" | "x"): string {
  const value = key.export({ format: "jwk" })[part];
  if (value === undefined) throw new ForeshiftError("INTERNAL", { detail: `an X25519 key without its ${part}` });
  return Buffer.from(value, "base64url").toString("base64");
}
