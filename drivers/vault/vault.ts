/**
 * Vault or OpenBao as a process sees it: secrets by reference and version, keys that never leave it, certificates. One login of its
 * own, kept alive. Reached over TCP, or over a unix socket that relays to it from a network namespace without a way out.
 */
import { z } from "zod";
import { parseInput } from "../../models/parse.ts";
import { type AppRoles, openAppRoles } from "./approles.ts";
import { VaultConfig, type VaultOptions } from "./config.ts";
import { type Kv, openKv } from "./kv.ts";
import { openPki, type Pki } from "./pki.ts";
import { VaultSession } from "./session.ts";
import { openTransport } from "./transport.ts";

/** Any path of Vault's API, below `/v1/`, with the process's token. INVALID_FIELD is what Vault will not ever do. */
export interface VaultCalls {
  get(path: string): Promise<unknown>;
  post(path: string, body: Readonly<Record<string, unknown>>): Promise<unknown>;
}

export interface Vault {
  readonly kv: Kv;
  readonly calls: VaultCalls;
  readonly pki: Pki;
  readonly appRoles: AppRoles;
  /** Makes the token live its full time again, where it can be renewed. Answers the milliseconds left; undefined: for ever. */
  renewToken(): Promise<number | undefined>;
  /** Times that it has logged in. */
  readonly logins: number;
  close(): Promise<void>;
}

/** Reaches for nothing yet: the first call logs in, and a Vault that is away is an error of that call. INVALID_FIELD on a bad option. */
export function openVault(options: VaultOptions, limits?: { readonly callTimeoutMs: number }): Vault {
  const config = parseInput(VaultConfig, options, "vault");
  const transport = openTransport(config, limits?.callTimeoutMs ?? config.callTimeoutMs);
  const session = new VaultSession(transport, config);
  return {
    kv: openKv(session, config.mounts.kv),
    calls: {
      get: (path) => session.ask({ what: path, method: "GET", path }, z.unknown()),
      post: (path, body) => session.ask({ what: path, method: "POST", path, body }, z.unknown()),
    },
    pki: openPki(session, config.mounts),
    appRoles: openAppRoles(session, config.mounts),
    renewToken: () => session.renew(),
    get logins() {
      return session.logins;
    },
    close: () => transport.close(),
  };
}
