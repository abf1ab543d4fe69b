/**
 * Vault or OpenBao as a process sees it: secrets by reference and version, keys that never leave it, certificates. One login of its
 * own, kept alive. Reached over TCP, or over a unix socket that relays to it from a network namespace without a way out.
 */
import { parseInput } from "../../models/parse.ts";
import { type AppRoles, openAppRoles } from "./approles.ts";
import { VaultConfig, type VaultOptions } from "./config.ts";
import { type Kv, openKv } from "./kv.ts";
import { openPki, type Pki } from "./pki.ts";
import { VaultSession } from "./session.ts";
import { openTransit, type Transit } from "./transit.ts";
import { openTransport } from "./transport.ts";

export interface Vault {
  readonly kv: Kv;
  readonly transit: Transit;
  readonly pki: Pki;
  readonly appRoles: AppRoles;
  /** Makes the token live its full time again, where it can be renewed. Answers the milliseconds left; undefined: for ever. */
  renewToken(): Promise<number | undefined>;
  /** Times that it has logged in. */
  readonly logins: number;
  close(): Promise<void>;
}

/** Reaches for nothing yet: the first call logs in, and a Vault that is away is an error of that call. INVALID_FIELD on a bad option. */
export function openVault(options: VaultOptions): Vault {
  const config = parseInput(VaultConfig, options, "vault");
  const transport = openTransport(config);
  const session = new VaultSession(transport, config);
  return {
    kv: openKv(session, config.mounts.kv),
    transit: openTransit(session, config.mounts.transit),
    pki: openPki(session, config.mounts),
    appRoles: openAppRoles(session, config.mounts),
    renewToken: () => session.renew(),
    get logins() {
      return session.logins;
    },
    close: () => transport.close(),
  };
}
