/**
 * Secrets by reference and version: the KV v2 engine.
 */
import { z } from "zod";
import type { SecretRef } from "../../models/session.ts";
import type { VaultSession } from "./session.ts";
import { isMissing, missing } from "./transport.ts";

/** The fields of one version of a secret. Never logged, never in an error's text. */
export type Secret = Readonly<Record<string, string>>;

export interface SecretVersion {
  readonly version: number;
  readonly createdAtMs: number;
  /** Its content is gone for good. */
  readonly destroyed: boolean;
}

export interface SecretMetadata {
  readonly currentVersion: number;
  /** The oldest first. */
  readonly versions: readonly SecretVersion[];
}

export interface Kv {
  /** UNREACHABLE and NOT_READY (sealed) may pass; UNAUTHORISED and INVALID_FIELD (no such secret or version) do not. */
  read(ref: SecretRef): Promise<Secret>;
  /**
   * Writes a further version and says which it is. With `expectedVersion` (0: none yet) only if that is the current one, else
   * INVALID_FIELD: a step that is made twice writes once.
   */
  write(path: string, secret: Secret, options?: { readonly expectedVersion?: number }): Promise<SecretRef>;
  metadata(path: string): Promise<SecretMetadata>;
  /** Makes the content of these versions unreadable for good; doing it again changes nothing. */
  destroy(path: string, versions: readonly number[]): Promise<void>;
  /** Names below a folder; a name that ends in `/` is a folder. Empty when there is none. */
  list(path: string): Promise<readonly string[]>;
}

const ReadAnswer = z.object({ data: z.object({ data: z.record(z.string(), z.string()).nullable() }) });
const WriteAnswer = z.object({ data: z.object({ version: z.number().int().positive() }) });
const MetadataAnswer = z.object({
  data: z.object({
    current_version: z.number().int().nonnegative(),
    versions: z.record(z.string(), z.object({ created_time: z.string(), destroyed: z.boolean() })).nullable(),
  }),
});
const ListAnswer = z.object({ data: z.object({ keys: z.array(z.string()) }) });

export function openKv(session: VaultSession, mount: string): Kv {
  return {
    async read({ path, version }) {
      const what = `${path} version ${version}`;
      const ask = { what, method: "GET", path: `${mount}/data/${path}?version=${version}` } as const;
      const secret = (await session.ask(ask, ReadAnswer)).data.data;
      if (secret === null) throw missing(what);
      return secret;
    },
    async write(path, secret, { expectedVersion } = {}) {
      const options = expectedVersion === undefined ? {} : { options: { cas: expectedVersion } };
      const ask = { what: path, method: "POST", path: `${mount}/data/${path}`, body: { data: secret, ...options } } as const;
      return { path, version: (await session.ask(ask, WriteAnswer)).data.version };
    },
    async metadata(path) {
      const { data } = await session.ask({ what: path, method: "GET", path: `${mount}/metadata/${path}` }, MetadataAnswer);
      const versions = Object.entries(data.versions ?? {}).map(([version, { created_time, destroyed }]) => ({
        version: Number(version),
        createdAtMs: Date.parse(created_time),
        destroyed,
      }));
      return { currentVersion: data.current_version, versions: versions.toSorted((one, other) => one.version - other.version) };
    },
    async destroy(path, versions) {
      const ask = { what: path, method: "POST", path: `${mount}/destroy/${path}`, body: { versions } } as const;
      await session.ask(ask, z.unknown());
    },
    async list(path) {
      try {
        return (await session.ask({ what: path, method: "LIST", path: `${mount}/metadata/${path}` }, ListAnswer)).data.keys;
      } catch (thrown) {
        if (isMissing(thrown)) return [];
        throw thrown;
      }
    },
  };
}
