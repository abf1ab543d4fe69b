/**
 * One exchange with Vault through `node-vault`: over TCP or a unix socket, with a deadline, and with errors that say what may pass.
 */
import { readFileSync } from "node:fs";
import vault from "node-vault";
import { Agent, type Dispatcher, Pool } from "undici";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import type { VaultConfig } from "./config.ts";

const { connectionsMax } = LIMITS.vault;
/** Vault's own limit of a request. */
const ANSWER_BYTES_MAX = 32 * 1024 * 1024;

export interface Ask {
  /** What it is about, for error messages; never a secret. */
  readonly what: string;
  readonly method: "GET" | "POST" | "PUT" | "DELETE" | "LIST";
  /** Without `/v1/`. */
  readonly path: string;
  readonly body?: Readonly<Record<string, unknown>>;
  /** Seconds; the answer is then a token that gives it once. */
  readonly wrapTtlS?: number;
}

export interface Transport {
  /** The checked answer. UNREACHABLE and NOT_READY may pass; UNAUTHORISED and INVALID_FIELD do not. */
  ask<T>(token: string | undefined, ask: Ask, schema: z.ZodType<T>): Promise<T>;
  close(): Promise<void>;
}

/** How undici gets to it: over TCP, with the authorities that are configured, or over a relay's socket. The caller destroys the dispatcher. */
export function wayTo(
  { address, caFile, socketPath }: Pick<VaultConfig, "socketPath" | "address" | "caFile">,
  timeoutMs: number,
): { readonly dispatcher: Dispatcher; readonly origin: string } {
  const ca = caFile === undefined ? undefined : readFileSync(caFile, "utf8");
  const connect = { timeout: timeoutMs, ...(ca === undefined ? {} : { ca }) };
  const pool = { connections: connectionsMax, maxResponseSize: ANSWER_BYTES_MAX };
  const origin = address ?? "http://vault";
  const dispatcher = socketPath === undefined ? new Agent({ ...pool, connect }) : new Pool(origin, { ...pool, socketPath });
  return { dispatcher, origin };
}

interface VaultRequest {
  readonly uri: string;
  readonly method: string;
  readonly headers?: Record<string, string>;
  readonly json?: unknown;
}

/** node-vault's own transport knows neither unix sockets nor deadlines. */
export function openTransport(
  config: Pick<VaultConfig, "socketPath" | "address" | "namespace" | "caFile">,
  callTimeoutMs: number = LIMITS.vault.callTimeoutMs,
): Transport {
  const where = config.socketPath ?? config.address ?? "";
  const { dispatcher, origin } = wayTo(config, callTimeoutMs);
  const exchange = async (asked: VaultRequest) => {
    const hasBody = typeof asked.json === "object" && asked.json !== null;
    const { origin, pathname, search } = new URL(asked.uri);
    const response = await dispatcher.request({
      origin,
      path: `${pathname}${search}`,
      method: asked.method,
      headers: { ...asked.headers, ...(hasBody ? { "content-type": "application/json" } : {}) },
      ...(hasBody ? { body: JSON.stringify(asked.json) } : {}),
      signal: AbortSignal.timeout(callTimeoutMs),
    });
    const body = parseJson(await response.body.text());
    return { statusCode: response.statusCode, body, request: { path: pathname } };
  };
  const clientFor = (token: string | undefined) => {
    const client = vault({
      endpoint: origin,
      // Its debug output would print what is written.
      debug: () => undefined,
      "request-promise": { defaults: () => exchange },
    });
    // node-vault takes what it is not told from the environment; ours comes from the configuration alone.
    return Object.assign(client, { token: token ?? "", namespace: config.namespace ?? "", pathPrefix: "" });
  };
  return {
    async ask(token, { what, method, path, body, wrapTtlS }, schema) {
      let answer: unknown;
      try {
        const headers = wrapTtlS === undefined ? {} : { "X-Vault-Wrap-TTL": `${wrapTtlS}s` };
        answer = await clientFor(token).request({
          // Vault takes both; what stands between (Node's own HTTP server among it) knows no method LIST.
          method: method === "LIST" ? "GET" : method,
          path: method === "LIST" ? `/${path}?list=true` : `/${path}`,
          headers,
          ...(body === undefined ? {} : { json: body }),
        });
      } catch (thrown) {
        throw toForeshiftError(thrown, what, where);
      }
      const parsed = schema.safeParse(answer ?? {});
      if (parsed.success) return parsed.data;
      // Something that is not Vault has answered for it; its words are not shown, they may hold a secret.
      const issue = z.flattenError(parsed.error).formErrors[0] ?? "a field is missing or wrong";
      throw new ForeshiftError("UNREACHABLE", {
        field: "vault",
        value: where,
        detail: `its answer on ${what} makes no sense: ${issue}`,
      });
    },
    close: () => dispatcher.destroy(),
  };
}

export function missing(what: string): ForeshiftError {
  return new ForeshiftError("INVALID_FIELD", { field: "secret", value: what, detail: "Vault holds no such secret or version" });
}

/** Vault does not have it; an empty list among it. */
export function isMissing(thrown: unknown): boolean {
  return thrown instanceof ForeshiftError && thrown.code === "INVALID_FIELD" && thrown.field === "secret";
}

function parseJson(text: string): unknown {
  try {
    return text === "" ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

function toForeshiftError(thrown: unknown, what: string, where: string): ForeshiftError {
  const { status, reason } = refusalOf(thrown);
  if (status === 404) return missing(what);
  if (status === 403 || status === 401)
    return new ForeshiftError("UNAUTHORISED", { field: "vault", detail: `the token may not use ${what}` });
  if (status === 400) return new ForeshiftError("INVALID_FIELD", { field: "vault", value: what, detail: reason });
  if (status === 503) return new ForeshiftError("NOT_READY", { value: "vault", detail: "it is sealed or standing by" });
  if (status === 429) return new ForeshiftError("NOT_READY", { value: "vault", detail: "it is asked too much (429)" });
  const detail = status === undefined ? messageOf(thrown) : `status ${status} for ${what}`;
  return new ForeshiftError("UNREACHABLE", { field: "vault", value: where, detail });
}

function refusalOf(thrown: unknown): { readonly status: number | undefined; readonly reason: string } {
  const nothing = { status: undefined, reason: "" };
  if (typeof thrown !== "object" || thrown === null || !("response" in thrown)) return nothing;
  const { response } = thrown;
  if (typeof response !== "object" || response === null || !("statusCode" in response)) return nothing;
  return typeof response.statusCode === "number" ? { status: response.statusCode, reason: messageOf(thrown) } : nothing;
}
