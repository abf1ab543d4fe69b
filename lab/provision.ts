/**
 * What the lab needs in Vault before the first machine boots: the swarm's static key pair, and a token that reads it and no more.
 */
import { readFile } from "node:fs/promises";
import vault from "node-vault";
import { z } from "zod";
import { openVault } from "../drivers/vault/vault.ts";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import { parseInput } from "../models/parse.ts";
import type { SecretRef } from "../models/session.ts";
import { writePrivateFile } from "./files.ts";
import { makeKeyPair } from "./keys.ts";
import { LAB_KEY_PATH } from "./spec.ts";

export const VAULT_MOUNT = "foreshift";
const AGENT_POLICY = "foreshift-agent";
const AGENT_TOKEN_PERIOD = "24h";

const TokenAnswer = z.object({ auth: z.object({ client_token: z.string().min(1) }) });

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
    const { publicKey } = await store.read(first);
    if (publicKey !== undefined) return { secret: first, publicKey };
  } catch (thrown) {
    if (!(thrown instanceof ForeshiftError) || thrown.retryable) throw thrown;
  }
  const pair = makeKeyPair();
  return { secret: await store.write(LAB_KEY_PATH, { ...pair }), publicKey: pair.publicKey };
}

/** A token that may read swarms' keys, by the policy that set-up (or, on a Vault of your own, an administrator) made. */
async function agentToken(address: string, token: string): Promise<string> {
  const client = vault({
    endpoint: address,
    token,
    debug: () => undefined,
    requestOptions: { timeout: LIMITS.lab.vaultTimeoutMs },
  });
  try {
    const request = { policies: [AGENT_POLICY], no_default_policy: true, period: AGENT_TOKEN_PERIOD };
    return parseInput(TokenAnswer, await client.tokenCreate(request), "answer of Vault").auth.client_token;
  } catch (thrown) {
    const detail = `no token with the policy ${AGENT_POLICY} can be made: ${messageOf(thrown)}`;
    throw new ForeshiftError("UNAUTHORISED", { field: `Vault at ${address}`, detail });
  }
}
