/**
 * WireGuard key pairs of the lab's clients. They are the clients' own secrets: made here, given to WireGuard, never written down.
 */
import { generateKeyPairSync, type KeyObject } from "node:crypto";

export interface KeyPair {
  /** Base64, as `wg genkey` prints it. */
  readonly privateKey: string;
  readonly publicKey: string;
}

export function makeKeyPair(): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync("x25519");
  return { privateKey: raw(privateKey, "d"), publicKey: raw(publicKey, "x") };
}

function raw(key: KeyObject, part: "d" | "x"): string {
  return Buffer.from(key.export({ format: "jwk" })[part] ?? "", "base64url").toString("base64");
}
