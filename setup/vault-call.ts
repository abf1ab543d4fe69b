/**
 * One call of Vault's API by whoever sets it up: with the administrator's token, or none.
 */
import { fetch } from "undici";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { SETUP_LIMITS } from "./limits.ts";

export interface VaultAdmin {
  readonly address: string;
  readonly namespace?: string | undefined;
  readonly token?: string | undefined;
}

export interface VaultCall {
  readonly body?: unknown;
  readonly wrapTtl?: string;
}

/** UNREACHABLE or UNAUTHORISED; an error names the path, never what was sent. */
export async function callVault(admin: VaultAdmin, method: string, path: string, options: VaultCall = {}): Promise<unknown> {
  const response = await send(admin, method, path, options);
  const text = await response.text();
  if (response.ok) return text === "" ? {} : JSON.parse(text);
  const detail = `${method} ${path} was answered with ${response.status}`;
  if (response.status === 401 || response.status === 403)
    throw new ForeshiftError("UNAUTHORISED", { field: `Vault at ${admin.address}`, detail });
  throw new Error(detail);
}

async function send({ address, namespace, token }: VaultAdmin, method: string, path: string, { body, wrapTtl }: VaultCall) {
  try {
    return await fetch(new URL(`/v1/${path}`, address), {
      method,
      signal: AbortSignal.timeout(SETUP_LIMITS.requestTimeoutMs),
      headers: {
        "content-type": "application/json",
        ...(token === undefined ? {} : { "x-vault-token": token }),
        ...(namespace === undefined ? {} : { "x-vault-namespace": namespace }),
        ...(wrapTtl === undefined ? {} : { "x-vault-wrap-ttl": wrapTtl }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch (thrown) {
    const cause = thrown instanceof Error && thrown.cause !== undefined ? messageOf(thrown.cause) : messageOf(thrown);
    throw new ForeshiftError("UNREACHABLE", { field: "Vault", value: address, detail: cause });
  }
}
