/**
 * A worker's identity, put together from its configuration: who signs, where the revocation list comes from, where things are kept.
 */
import type { Logger } from "pino";
import type { IdentityConfig } from "../drivers/identity/config.ts";
import type { CrlSource } from "../drivers/identity/crl-keeper.ts";
import { collectorCrl, vaultCrl } from "../drivers/identity/crl-sources.ts";
import { dialer } from "../drivers/identity/dial.ts";
import { ProcessIdentity } from "../drivers/identity/process-identity.ts";
import type { VaultConfig } from "../drivers/vault/config.ts";
import type { Pki } from "../drivers/vault/pki.ts";
import { openVault, type Vault } from "../drivers/vault/vault.ts";
import { ForeshiftError } from "../models/errors.ts";
import { processIdentity } from "../models/identity.ts";
import { IDENTITY_LIMITS } from "../models/limits-identity.ts";
import type { VaultProcess } from "../models/vault-layout.ts";
import { keepToken } from "./keep-token.ts";

export interface IdentifyOptions {
  readonly uri: string;
  readonly config: IdentityConfig;
  readonly pki: Pki;
  /** Where the collector listens; absent for the collector itself, which asks Vault. */
  readonly collector?: string;
  readonly log: Logger;
}

export interface Secured {
  readonly identity: ProcessIdentity;
  readonly vault: Vault;
  close(): Promise<void>;
}

export interface SecureOptions {
  readonly name: VaultProcess;
  readonly config: { readonly identity?: IdentityConfig | undefined; readonly vault?: VaultConfig | undefined };
  /** Where the collector listens; absent for the collector itself. */
  readonly collector?: string;
  readonly log: Logger;
}

/** A process of the control plane with its own login at Vault, kept alive, and its own certificate. INVALID_FIELD when one is missing. */
export async function secure({ name, config, collector, log }: SecureOptions): Promise<Secured> {
  if (config.identity === undefined || config.vault === undefined) {
    const detail = "identity and vault go together: Vault signs the certificates";
    throw new ForeshiftError("INVALID_FIELD", { field: "vault", value: "one of the two", detail });
  }
  const vault = openVault(config.vault);
  const stop = new AbortController();
  const uri = processIdentity(name);
  const where = collector === undefined ? {} : { collector };
  const identity = await identify({ uri, config: config.identity, pki: vault.pki, log, ...where });
  const kept = keepToken(vault, log, stop.signal);
  return {
    identity,
    vault,
    close: async () => {
      stop.abort();
      await Promise.all([kept, identity.close()]);
      await vault.close();
    },
  };
}

/** Resolves once the process has a certificate and every source of the revocation list was asked. */
export async function identify({ uri, config, pki, collector, log }: IdentifyOptions): Promise<ProcessIdentity> {
  const { dir, certificateTtlMs, handshakeTimeoutMs, staleCrl, confirmCrlWithinMs } = config;
  const crlSources = (identity: ProcessIdentity): readonly CrlSource[] => {
    if (collector === undefined) return [vaultCrl(pki, IDENTITY_LIMITS.crlPollMs)];
    const expected = processIdentity("collector");
    const dial = dialer(identity, { expects: (found) => found === expected, checked: false });
    return [collectorCrl(dial, collector), vaultCrl(pki, IDENTITY_LIMITS.crlVaultPollMs)];
  };
  const identity = new ProcessIdentity({
    uri,
    pki,
    dir,
    certificateTtlMs,
    handshakeTimeoutMs,
    staleCrl,
    confirmCrlWithinMs,
    crlSources,
    note: (level, fields) => log[level](fields),
  });
  await identity.start();
  return identity;
}
