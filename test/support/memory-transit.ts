/** Transit and registry in memory, for property tests: versions, rewrapping and a minimum as Vault has them; faults on command. */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { DataKeyRegistry, RegisteredKey } from "../../drivers/store/data-keys.ts";
import type { DataKey, Transit } from "../../drivers/vault/transit.ts";
import { ForeshiftError } from "../../models/errors.ts";

export class MemoryTransit implements Transit {
  readonly #versions: Buffer[] = [randomBytes(32)];
  #oldest = 1;
  /** Thrown by each call, as by a Vault that is away. */
  fault: ForeshiftError | undefined;
  calls = 0;

  async newDataKey(): Promise<DataKey> {
    this.#call();
    const key = randomBytes(32);
    return { key, wrapped: this.#wrap(key) };
  }

  async unwrap(wrapped: string): Promise<Buffer> {
    this.#call();
    return this.#unwrapped(wrapped);
  }

  async rewrap(wrapped: readonly string[]): Promise<readonly string[]> {
    this.#call();
    return wrapped.map((one) => this.#wrap(this.#unwrapped(one)));
  }

  async versions() {
    this.#call();
    return { latest: this.#versions.length, oldestReadable: this.#oldest };
  }

  async rotate(): Promise<number> {
    this.#call();
    return this.#versions.push(randomBytes(32));
  }

  async raiseMinimum(version: number): Promise<void> {
    this.#call();
    this.#oldest = version;
  }

  #call(): void {
    this.calls += 1;
    if (this.fault !== undefined) throw this.fault;
  }

  #wrap(key: Buffer): string {
    const nonce = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", this.#versions.at(-1) ?? randomBytes(32), nonce);
    const text = Buffer.concat([nonce, cipher.update(key), cipher.final(), cipher.getAuthTag()]).toString("base64");
    return `vault:v${this.#versions.length}:${text}`;
  }

  #unwrapped(wrapped: string): Buffer {
    const [, version, text = ""] = /^vault:v(\d+):(.*)$/.exec(wrapped) ?? [];
    const own = this.#versions[Number(version) - 1];
    if (own === undefined || Number(version) < this.#oldest) throw new ForeshiftError("PAYLOAD_REFUSED", { detail: "version" });
    const bytes = Buffer.from(text, "base64");
    try {
      const decipher = createDecipheriv("aes-256-gcm", own, bytes.subarray(0, 12), { authTagLength: 16 });
      decipher.setAuthTag(bytes.subarray(-16));
      return Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()]);
    } catch {
      throw new ForeshiftError("PAYLOAD_REFUSED", { detail: "not wrapped by this key" });
    }
  }
}

export function memoryRegistry(): DataKeyRegistry & { readonly rows: ReadonlyMap<string, RegisteredKey> } {
  const rows = new Map<string, RegisteredKey>();
  return {
    rows,
    register: async (key) => void rows.set(key.id, rows.get(key.id) ?? key),
    find: async (id) => rows.get(id)?.wrapped,
    olderThan: async (version, limit) => [...rows.values()].filter((row) => row.version < version).slice(0, limit),
    countOlderThan: async (version) => [...rows.values()].filter((row) => row.version < version).length,
    replaceWrap: async (key) => {
      if ((rows.get(key.id)?.version ?? 0) < key.version) rows.set(key.id, key);
    },
    close: async () => undefined,
  };
}
