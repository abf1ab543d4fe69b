/**
 * Versions of keys in Vault's KV v2: a fresh one is made here and written at once, and who asked for it is handed its version.
 */
import { randomBytes } from "node:crypto";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { versionsToDestroy } from "../../models/keys.ts";
import type { AgentLogins, Certificates, KeyVault } from "../key-ports.ts";
import { keyPairOf } from "../tunnel/wireguard-probe-crypto.ts";
import type { Kv, SecretMetadata } from "./kv.ts";

/** What WireGuard takes (`wg genpsk`): 32 bytes of chance, base64. */
const KEY_BYTES = 32;

export type KeyVersions = Pick<Kv, "write" | "metadata" | "destroy">;

/** Nobody reads a key here: this is for a process that may write keys and not read them. */
export function keyVault(kv: KeyVersions): KeyVault {
  return {
    newestVersion: ({ path }) => asked(path, async () => (await metadataOf(kv, path)).currentVersion),
    issuePresharedKey: ({ after, path }) =>
      asked(path, async () => {
        try {
          const presharedKey = randomBytes(KEY_BYTES).toString("base64");
          return await kv.write(path, { presharedKey }, { expectedVersion: after });
        } catch (thrown) {
          // An attempt of this very step whose answer was lost: nobody else writes here.
          if (isRefused(thrown) && (await metadataOf(kv, path)).currentVersion === after + 1)
            return { path, version: after + 1 };
          throw thrown;
        }
      }),
    issueStaticKey: ({ after, path }) =>
      asked(path, async () => {
        const { currentVersion } = await metadataOf(kv, path);
        const lost = Array.from({ length: Math.max(0, currentVersion - after) }, (_, n) => after + 1 + n);
        if (lost.length > 0) await kv.destroy(path, lost);
        const { privateKey, publicKey } = freshKeyPair();
        const secret = await kv.write(path, { privateKey, publicKey }, { expectedVersion: Math.max(after, currentVersion) });
        return { secret, publicKey };
      }),
    destroyOthers: ({ path, keep }) =>
      asked(path, async () => {
        const { versions } = await metadataOf(kv, path);
        const others = versionsToDestroy(versions, keep);
        if (others.length > 0) await kv.destroy(path, others);
        return others.length;
      }),
    destroy: ({ path, versions }) => asked(path, () => kv.destroy(path, versions)),
  };
}

/** Of a control worker that no Vault was named to. */
export const noKeyVault: KeyVault = {
  newestVersion: () => Promise.reject(notConfigured()),
  issuePresharedKey: () => Promise.reject(notConfigured()),
  issueStaticKey: () => Promise.reject(notConfigured()),
  destroyOthers: () => Promise.reject(notConfigured()),
  destroy: () => Promise.reject(notConfigured()),
};

/** The same of certificates. */
export const noCertificates: Certificates = {
  revoke: () => Promise.reject(notConfigured()),
  serialsOf: () => Promise.resolve([]),
};

/** And of logins: without a Vault nobody has one. */
export const noAgentLogins: AgentLogins = { end: () => Promise.resolve() };

function notConfigured(): ForeshiftError {
  const detail = "the control worker's configuration has no section vault";
  return new ForeshiftError("INVALID_FIELD", { field: "vault", value: "nothing", detail });
}

function freshKeyPair(): { readonly privateKey: string; readonly publicKey: string } {
  const own = randomBytes(KEY_BYTES);
  return { privateKey: own.toString("base64"), publicKey: keyPairOf(own).publicKey.toString("base64") };
}

/** Nothing was ever written where Vault knows no metadata. */
async function metadataOf(kv: KeyVersions, path: string): Promise<SecretMetadata> {
  try {
    return await kv.metadata(path);
  } catch (thrown) {
    if (isRefused(thrown) && messageOf(thrown).includes("no such secret")) return { currentVersion: 0, versions: [] };
    throw thrown;
  }
}

async function asked<T>(path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (thrown) {
    throw asPassing(thrown, path);
  }
}

/** What Vault says and nobody understands is no verdict: something else may have answered in its place. */
function asPassing(thrown: unknown, path: string): unknown {
  if (!isRefused(thrown)) return thrown;
  return new ForeshiftError("UNREACHABLE", { field: "vault", value: path, detail: messageOf(thrown) }, { cause: thrown });
}

function isRefused(thrown: unknown): boolean {
  return thrown instanceof ForeshiftError && thrown.code === "INVALID_FIELD";
}
