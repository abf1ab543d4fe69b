/**
 * What the lab needs in Vault before the first machine boots: the swarm's static key pair.
 */
import type { Vault } from "../drivers/vault/vault.ts";
import { ForeshiftError } from "../models/errors.ts";
import type { SecretRef } from "../models/session.ts";
import { makeKeyPair } from "./keys.ts";
import { LAB_KEY_PATH } from "./spec.ts";

export interface Provisioned {
  readonly secret: SecretRef;
  /** Base64, as `wg pubkey` prints it. */
  readonly publicKey: string;
}

/** Makes the key pair once; later calls find it. */
export async function provisionSwarm({ kv }: Pick<Vault, "kv">): Promise<Provisioned> {
  const first = { path: LAB_KEY_PATH, version: 1 };
  try {
    const { publicKey } = await kv.read(first);
    if (publicKey !== undefined) return { secret: first, publicKey };
  } catch (thrown) {
    if (!(thrown instanceof ForeshiftError) || thrown.code !== "INVALID_FIELD") throw thrown;
  }
  const pair = makeKeyPair();
  return { secret: await kv.write(LAB_KEY_PATH, { ...pair }), publicKey: pair.publicKey };
}
