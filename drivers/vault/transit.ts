/**
 * Keys that never leave Vault: the transit engine. What they sealed names the version of the key in its first characters (`vault:v3:…`).
 */
import { z } from "zod";
import type { VaultSession } from "./session.ts";

export interface DataKey {
  /** 32 bytes; for memory only. */
  readonly plaintext: Buffer;
  /** The same, sealed; may be kept beside what it protects. */
  readonly ciphertext: string;
  readonly version: number;
}

export interface TransitKey {
  readonly latestVersion: number;
  /** Older ciphertexts are refused. */
  readonly minDecryptionVersion: number;
}

export interface SealOptions {
  /** Bound to the ciphertext: another one at decryption is refused. */
  readonly associatedData?: Buffer;
}

export interface Transit {
  encrypt(key: string, plaintext: Buffer, options?: SealOptions): Promise<string>;
  /** INVALID_FIELD when it was not sealed by this key, was changed, or its version is below the minimum. */
  decrypt(key: string, ciphertext: string, options?: SealOptions): Promise<Buffer>;
  dataKey(key: string): Promise<DataKey>;
  /** Sealed anew by the latest version, in order, without being seen; INVALID_FIELD when any of them is refused. */
  rewrap(key: string, ciphertexts: readonly string[]): Promise<readonly string[]>;
  describe(key: string): Promise<TransitKey>;
  /** Adds a version. */
  rotate(key: string): Promise<void>;
  setMinDecryptionVersion(key: string, version: number): Promise<void>;
}

const sealed = z.string().regex(/^vault:v\d+:/);
const EncryptAnswer = z.object({ data: z.object({ ciphertext: sealed }) });
const DecryptAnswer = z.object({ data: z.object({ plaintext: z.string() }) });
const DataKeyAnswer = z.object({ data: z.object({ plaintext: z.string(), ciphertext: sealed }) });
const RewrapAnswer = z.object({ data: z.object({ batch_results: z.array(z.object({ ciphertext: sealed })) }) });
const KeyAnswer = z.object({
  data: z.object({ latest_version: z.number().int().positive(), min_decryption_version: z.number().int().positive() }),
});

/** The version of the key that sealed it. */
export function transitVersion(ciphertext: string): number {
  return Number(/^vault:v(\d+):/.exec(ciphertext)?.[1] ?? Number.NaN);
}

export function openTransit(session: VaultSession, mount: string): Transit {
  const post = <T>(action: string, key: string, body: Readonly<Record<string, unknown>>, schema: z.ZodType<T>) =>
    session.ask({ what: `transit ${action} by ${key}`, method: "POST", path: `${mount}/${action}/${key}`, body }, schema);
  return {
    async encrypt(key, plaintext, options) {
      const body = { plaintext: plaintext.toString("base64"), ...associated(options) };
      return (await post("encrypt", key, body, EncryptAnswer)).data.ciphertext;
    },
    async decrypt(key, ciphertext, options) {
      const { data } = await post("decrypt", key, { ciphertext, ...associated(options) }, DecryptAnswer);
      return Buffer.from(data.plaintext, "base64");
    },
    async dataKey(key) {
      const { plaintext, ciphertext } = (await post("datakey/plaintext", key, {}, DataKeyAnswer)).data;
      return { plaintext: Buffer.from(plaintext, "base64"), ciphertext, version: transitVersion(ciphertext) };
    },
    async rewrap(key, ciphertexts) {
      if (ciphertexts.length === 0) return [];
      const batch_input = ciphertexts.map((ciphertext) => ({ ciphertext }));
      const { data } = await post("rewrap", key, { batch_input }, RewrapAnswer);
      return data.batch_results.map(({ ciphertext }) => ciphertext);
    },
    async describe(key) {
      const ask = { what: `transit key ${key}`, method: "GET", path: `${mount}/keys/${key}` } as const;
      const { data } = await session.ask(ask, KeyAnswer);
      return { latestVersion: data.latest_version, minDecryptionVersion: data.min_decryption_version };
    },
    async rotate(key) {
      const ask = { what: `transit key ${key}`, method: "POST", path: `${mount}/keys/${key}/rotate`, body: {} } as const;
      await session.ask(ask, z.unknown());
    },
    async setMinDecryptionVersion(key, version) {
      const body = { min_decryption_version: version };
      const ask = { what: `transit key ${key}`, method: "POST", path: `${mount}/keys/${key}/config`, body } as const;
      await session.ask(ask, z.unknown());
    },
  };
}

function associated(options: SealOptions | undefined): Readonly<Record<string, unknown>> {
  return options?.associatedData === undefined ? {} : { associated_data: options.associatedData.toString("base64") };
}
