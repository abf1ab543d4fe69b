/**
 * The clients' side of a rotation: the hook that reaches them. Keys are read from Vault by reference and given to WireGuard by a pipe.
 */
import { z } from "zod";
import { NO_PRESHARED_KEY } from "../drivers/tunnel/wireguard-device.ts";
import type { Kv } from "../drivers/vault/kv.ts";
import { messageOf } from "../models/errors.ts";
import { refName } from "../models/keys.ts";
import { LIMITS } from "../models/limits.ts";
import { KEY_LIMITS } from "../models/limits-keys.ts";
import { PublicKey, SecretRef } from "../models/session.ts";
import type { Clients } from "./clients.ts";

const PeerKey = z.strictObject({ publicKey: PublicKey, presharedKey: SecretRef.optional() });
export const DistributeBody = z.strictObject({ keys: z.array(PeerKey).max(LIMITS.lab.sessionsMax) });
export const OrderBody = z.strictObject({
  publicKeys: z.array(PublicKey).max(LIMITS.lab.sessionsMax),
  identity: z.strictObject({ publicKey: PublicKey, port: z.number().int().min(1).max(65_535) }),
});
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

  /** Another of the swarm's static keys: a way to it is brought up beside the one in use, used, or taken down. */
  order(action: "bring" | "use" | "drop", { identity, publicKeys }: z.infer<typeof OrderBody>): Promise<Outcome> {
    const change = ({ publicKey }: { publicKey: string }) => {
      if (action === "bring") return this.#clients.bringWay(publicKey, identity);
      if (action === "use") return this.#clients.useWay(publicKey, identity);
      return this.#clients.dropWay(publicKey, identity);
    };
    return this.#each(
      publicKeys.map((publicKey) => ({ publicKey })),
      change,
    );
  }

  async #each<K extends { readonly publicKey: string }>(keys: readonly K[], work: (key: K) => Promise<void>): Promise<Outcome> {
    const taken: string[] = [];
    const refused: string[] = [];
    const waiting = [...keys];
    const workOn = async () => {
      for (let key = waiting.shift(); key !== undefined; key = waiting.shift()) {
        try {
          await work(key);
          taken.push(key.publicKey);
        } catch (thrown) {
          refused.push(key.publicKey);
          this.#log(messageOf(thrown));
        }
      }
    };
    await Promise.all(Array.from({ length: KEY_LIMITS.writesAtOnceMax }, workOn));
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
