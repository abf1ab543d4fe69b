/**
 * The process as Vault knows it: one token, got when it is first needed, renewed while it lives, and got anew when Vault has forgotten
 * it (revoked, expired, restored from a backup). A sealed or absent Vault is no reason to log in again.
 */
import { z } from "zod";
import { ForeshiftError } from "../../models/errors.ts";
import { IDENTITY_LIMITS } from "../../models/limits-identity.ts";
import type { VaultConfig } from "./config.ts";
import { type Login, logIn, readSecretFile } from "./login.ts";
import type { Ask, Transport } from "./transport.ts";

/** Seconds; 0 is for ever. */
const LookupAnswer = z.object({ data: z.object({ ttl: z.number(), renewable: z.boolean().default(false) }) });
const RenewAnswer = z.object({ auth: z.object({ lease_duration: z.number() }) });

interface Held {
  readonly login: Login;
  rolledAtMs: number;
}

export class VaultSession {
  readonly #transport: Transport;
  readonly #config: VaultConfig;
  #held: Promise<Held> | undefined;
  #logins = 0;

  constructor(transport: Transport, config: VaultConfig) {
    this.#transport = transport;
    this.#config = config;
  }

  /** Times that it has logged in. */
  get logins(): number {
    return this.#logins;
  }

  /** Asked with the process's token; with a new one when Vault knows the old one no more. */
  async ask<T>(ask: Ask, schema: z.ZodType<T>): Promise<T> {
    const token = await this.#token();
    try {
      return await this.#transport.ask(token, ask, schema);
    } catch (thrown) {
      if (!isRefusal(thrown) || !(await this.#isForgotten(token))) throw thrown;
      await this.#forget(token);
      return await this.#transport.ask(await this.#token(), ask, schema);
    }
  }

  /** Without a token: what anybody may read. */
  async askOpenly<T>(ask: Ask, schema: z.ZodType<T>): Promise<T> {
    return await this.#transport.ask(undefined, ask, schema);
  }

  /** Makes the token live its full time again, where it can be renewed. Answers the milliseconds left; undefined: for ever. */
  async renew(): Promise<number | undefined> {
    const lookup = { what: "its own token", method: "GET", path: "auth/token/lookup-self" } as const;
    const { ttl, renewable } = (await this.ask(lookup, LookupAnswer)).data;
    const renewal = { what: "its own token", method: "POST", path: "auth/token/renew-self", body: {} } as const;
    const leftS = ttl === 0 || !renewable ? ttl : (await this.ask(renewal, RenewAnswer)).auth.lease_duration;
    await this.#rollIfDue();
    return ttl === 0 ? undefined : leftS * 1_000;
  }

  async #token(): Promise<string> {
    const { auth } = this.#config;
    if (auth.method === "token-file") return (await readSecretFile(auth.tokenFile)).trim();
    if (this.#held === undefined) {
      const held = this.#logIn();
      this.#held = held;
      // A login that failed is tried again by the next call.
      held.catch(() => {
        if (this.#held === held) this.#held = undefined;
      });
    }
    return (await this.#held).login.token;
  }

  async #logIn(): Promise<Held> {
    const { auth } = this.#config;
    if (auth.method === "token-file") throw new ForeshiftError("INTERNAL", { detail: "a token file needs no login" });
    const login = await logIn(this.#transport, auth);
    this.#logins += 1;
    return { login, rolledAtMs: Date.now() };
  }

  async #rollIfDue(): Promise<void> {
    const held = await this.#held;
    if (held === undefined || Date.now() - held.rolledAtMs < IDENTITY_LIMITS.secretIdRollMs) return;
    await held.login.roll();
    held.rolledAtMs = Date.now();
  }

  async #isForgotten(token: string): Promise<boolean> {
    if (this.#config.auth.method === "token-file") return false;
    const lookup = { what: "its own token", method: "GET", path: "auth/token/lookup-self" } as const;
    try {
      await this.#transport.ask(token, lookup, LookupAnswer);
      return false;
    } catch (thrown) {
      return isRefusal(thrown);
    }
  }

  /** Unless somebody else has got a new one in between. */
  async #forget(token: string): Promise<void> {
    const held = this.#held;
    if (held !== undefined && (await held).login.token === token && this.#held === held) this.#held = undefined;
  }
}

function isRefusal(thrown: unknown): boolean {
  return thrown instanceof ForeshiftError && thrown.code === "UNAUTHORISED";
}
