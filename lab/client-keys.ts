/**
 * The clients' side of a rotation: the hook that reaches them. Keys are read from Vault by reference and given to WireGuard by a pipe.
 */
import { z } from "zod";
import { NO_PRESHARED_KEY } from "../drivers/tunnel/wireguard-device.ts";
import type { Kv } from "../drivers/vault/kv.ts";
import { messageOf } from "../models/errors.ts";
import { refName } from "../models/keys.ts";
import { LIMITS } from "../models/limits.ts";
import { PublicKey, SecretRef } from "../models/session.ts";
import type { Clients } from "./clients.ts";

const PeerKey = z.strictObject({ publicKey: PublicKey, presharedKey: SecretRef.optional() });
export const DistributeBody = z.strictObject({ keys: z.array(PeerKey).max(LIMITS.lab.sessionsMax) });
export const ActivateBody = DistributeBody.extend({ handshake: z.boolean() });
type PeerKey = z.infer<typeof PeerKey>;

interface Outcome {
  readonly taken: readonly string[];
  readonly refused: readonly string[];
}

export class ClientKeys {
  readonly #clients: Clients;
  readonly #secrets: Pick<Kv, "read">;
  readonly #log: (detail: string) => void;
  /** By the name of their version. */
  readonly #ready = new Map<string, string>();

  constructor(parts: { clients: Clients; secrets: Pick<Kv, "read">; log: (detail: string) => void }) {
    this.#clients = parts.clients;
    this.#secrets = parts.secrets;
    this.#log = parts.log;
  }

  distribute(keys: readonly PeerKey[]): Promise<Outcome> {
    return this.#each(keys, async (key) => {
      await this.#keyOf(key);
    });
  }

  activate(keys: readonly PeerKey[], handshake: boolean): Promise<Outcome> {
    return this.#each(keys, async (key) => {
      const presharedKey = await this.#keyOf(key);
      await this.#clients.setPresharedKey(key.publicKey, presharedKey, handshake);
    });
  }

  async #each(keys: readonly PeerKey[], work: (key: PeerKey) => Promise<void>): Promise<Outcome> {
    const taken: string[] = [];
    const refused: string[] = [];
    for (const key of keys) {
      try {
        await work(key);
        taken.push(key.publicKey);
      } catch (thrown) {
        refused.push(key.publicKey);
        this.#log(messageOf(thrown));
      }
    }
    return { taken, refused };
  }

  async #keyOf({ presharedKey: ref }: PeerKey): Promise<string> {
    if (ref === undefined) return NO_PRESHARED_KEY;
    const name = refName(ref);
    const found = this.#ready.get(name) ?? (await this.#secrets.read(ref)).presharedKey;
    if (found === undefined) throw new Error(`${name} holds no preshared key`);
    this.#ready.set(name, found);
    return found;
  }
}
