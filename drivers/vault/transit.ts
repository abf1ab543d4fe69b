/**
 * The key that stays in Vault: transit hands out data keys together with their wrapped form, unwraps them again, rewraps them under a
 * newer version, and is itself rotated.
 */
import { z } from "zod";
import { ForeshiftError } from "../../models/errors.ts";
import type { VaultCalls } from "./vault.ts";

export interface DataKey {
  /** Never written down. */
  readonly key: Buffer;
  /** `vault:v3:…`: what may be stored. */
  readonly wrapped: string;
}

export interface TransitVersions {
  readonly latest: number;
  /** Nothing older is unwrapped. */
  readonly oldestReadable: number;
}

export interface Transit {
  newDataKey(): Promise<DataKey>;
  /** PAYLOAD_REFUSED when Vault will not ever: too old a version, or not wrapped by this key. */
  unwrap(wrapped: string): Promise<Buffer>;
  /** Under the latest version, in the order given. */
  rewrap(wrapped: readonly string[]): Promise<readonly string[]>;
  versions(): Promise<TransitVersions>;
  /** A further version for what is wrapped from here on. Answers which it is. */
  rotate(): Promise<number>;
  /** Nothing older than this version is unwrapped any more: rewrap everything first. */
  raiseMinimum(version: number): Promise<void>;
}

export interface TransitOptions {
  /** Mount point of the engine. */
  readonly mount: string;
  /** Name of the key. */
  readonly key: string;
}

const KEY_BITS = 256;
const KEY_BYTES = KEY_BITS / 8;
const Wrapped = z.string().regex(/^vault:v\d+:/);
const Key = z.base64().transform((text) => Buffer.from(text, "base64"));
const DataKeyAnswer = z.object({ data: z.object({ plaintext: Key, ciphertext: Wrapped }) });
const UnwrapAnswer = z.object({ data: z.object({ plaintext: Key }) });
const RewrapAnswer = z.object({
  data: z.object({ batch_results: z.array(z.object({ ciphertext: Wrapped.optional(), error: z.string().optional() })) }),
});
const KeyAnswer = z.object({
  data: z.object({ latest_version: z.number().int().positive(), min_decryption_version: z.number().int().positive() }),
});

/** Errors are those of the calls, and PAYLOAD_REFUSED; an answer that is not transit's is UNREACHABLE, for it may be another's. */
export function openTransit(calls: VaultCalls, { mount, key }: TransitOptions): Transit {
  const keyPath = `${mount}/keys/${key}`;
  const versions = async () => {
    const { data } = understood(KeyAnswer, await calls.get(keyPath));
    return { latest: data.latest_version, oldestReadable: data.min_decryption_version };
  };
  return {
    newDataKey: async () => {
      const { data } = understood(DataKeyAnswer, await calls.post(`${mount}/datakey/plaintext/${key}`, { bits: KEY_BITS }));
      return { key: wholeKey(data.plaintext), wrapped: data.ciphertext };
    },
    unwrap: async (wrapped) => {
      const answer = await refusals(() => calls.post(`${mount}/decrypt/${key}`, { ciphertext: wrapped }));
      return wholeKey(understood(UnwrapAnswer, answer).data.plaintext);
    },
    rewrap: async (wrapped) => {
      if (wrapped.length === 0) return [];
      const batch_input = wrapped.map((ciphertext) => ({ ciphertext }));
      const answer = await refusals(() => calls.post(`${mount}/rewrap/${key}`, { batch_input }));
      const results = understood(RewrapAnswer, answer).data.batch_results;
      const written = results.flatMap(({ ciphertext }) => (ciphertext === undefined ? [] : [ciphertext]));
      if (written.length !== wrapped.length)
        throw refused(results.find(({ error }) => error !== undefined)?.error ?? "no answer");
      return written;
    },
    versions,
    rotate: async () => {
      await calls.post(`${keyPath}/rotate`, {});
      return (await versions()).latest;
    },
    raiseMinimum: async (version) => {
      await calls.post(`${keyPath}/config`, { min_decryption_version: version });
    },
  };
}

function wholeKey(key: Buffer): Buffer {
  if (key.byteLength === KEY_BYTES) return key;
  throw strange(`a key of ${key.byteLength} bytes`);
}

function understood<T>(schema: z.ZodType<T>, answer: unknown): T {
  const parsed = schema.safeParse(answer);
  if (parsed.success) return parsed.data;
  // What came may hold a key, so it is not quoted.
  throw strange("something that is not transit's");
}

function strange(what: string): ForeshiftError {
  return new ForeshiftError("UNREACHABLE", { field: "vault", value: "transit", detail: `it answered ${what}` });
}

/** Transit answers 400 to what it will not unwrap; asking again changes nothing. */
async function refusals<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (thrown) {
    if (thrown instanceof ForeshiftError && thrown.code === "INVALID_FIELD") throw refused(thrown.message);
    throw thrown;
  }
}

function refused(detail: string): ForeshiftError {
  return new ForeshiftError("PAYLOAD_REFUSED", { detail });
}
