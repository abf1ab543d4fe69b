/**
 * Secrets in Vault or OpenBao: KV v2, by reference and version. Reached over TCP, or over a unix socket that relays to it from a
 * network namespace without a way out.
 */
import { readFile } from "node:fs/promises";
import vault from "node-vault";
import { Agent, Pool, request } from "undici";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import { parseInput } from "../../models/parse.ts";
import type { SecretRef } from "../../models/session.ts";

const { callTimeoutMs, connectionsMax } = LIMITS.vault;

/** The fields of one version of a secret. Never logged, never in an error's text. */
export type Secret = Readonly<Record<string, string>>;

export interface SecretStore {
  /** UNREACHABLE and NOT_READY (sealed) may pass; UNAUTHORISED and INVALID_FIELD (no such secret or version) do not. */
  read(ref: SecretRef): Promise<Secret>;
  /** Writes a further version and says which it is. */
  write(path: string, secret: Secret): Promise<SecretRef>;
  /** Makes the token live its full time again, where it can be renewed. Answers the milliseconds left; undefined: for ever. */
  renewToken(): Promise<number | undefined>;
  close(): Promise<void>;
}

export interface VaultOptions {
  /** Exactly one of the two says where Vault is: a relay's unix socket, or `http(s)://host:port`. */
  readonly socketPath?: string;
  readonly address?: string;
  /** Exactly one of the two; a token file is read again for each call, so that a renewed token is taken up. */
  readonly token?: string;
  readonly tokenFile?: string;
  /** Mount point of the KV v2 engine. */
  readonly mount: string;
}

const ReadAnswer = z.object({ data: z.object({ data: z.record(z.string(), z.string()).nullable() }) });
/** Seconds; 0 is for ever. */
const LookupAnswer = z.object({ data: z.object({ ttl: z.number(), renewable: z.boolean().default(false) }) });
const RenewAnswer = z.object({ auth: z.object({ lease_duration: z.number() }) });
const WriteAnswer = z.object({ data: z.object({ version: z.number().int().positive() }) });

export function openVault(options: VaultOptions): SecretStore {
  const where = options.socketPath ?? options.address ?? "";
  if (where === "")
    throw new ForeshiftError("INVALID_FIELD", { field: "vault", value: "nothing", detail: "give its address or socket" });
  const transport = openTransport(options);
  const client = async () => {
    const token = options.token ?? (await readToken(options.tokenFile));
    // Its debug output would print what is written.
    return vault({
      endpoint: transport.origin,
      token,
      debug: () => undefined,
      "request-promise": { defaults: () => transport.exchange },
    });
  };
  const call = async (what: string, make: (client: vault.client) => Promise<unknown>): Promise<unknown> => {
    const ready = await client();
    try {
      return await make(ready);
    } catch (thrown) {
      throw toForeshiftError(thrown, what, where);
    }
  };
  return {
    async read(ref) {
      const path = `${options.mount}/data/${ref.path}?version=${ref.version}`;
      const answer = await call(`${ref.path} version ${ref.version}`, (ready) => ready.read(path));
      const secret = parseInput(ReadAnswer, answer, "answer of vault").data.data;
      if (secret === null) throw missing(`${ref.path} version ${ref.version}`);
      return secret;
    },
    async write(path, secret) {
      const answer = await call(path, (ready) => ready.write(`${options.mount}/data/${path}`, { data: secret }));
      return { path, version: parseInput(WriteAnswer, answer, "answer of vault").data.version };
    },
    async renewToken() {
      const found = await call("its own token", (ready) => ready.tokenLookupSelf());
      const { ttl, renewable } = parseInput(LookupAnswer, found, "answer of vault").data;
      if (ttl === 0) return undefined;
      if (!renewable) return ttl * 1_000;
      const renewed = await call("its own token", (ready) => ready.tokenRenewSelf());
      return parseInput(RenewAnswer, renewed, "answer of vault").auth.lease_duration * 1_000;
    },
    close: () => transport.close(),
  };
}

interface VaultRequest {
  readonly uri: string;
  readonly method: string;
  readonly headers?: Record<string, string>;
  readonly json?: unknown;
}

/** node-vault's own transport knows neither unix sockets nor deadlines. */
function openTransport(options: VaultOptions) {
  const dispatcher =
    options.socketPath === undefined
      ? new Agent({ connections: connectionsMax, connect: { timeout: callTimeoutMs } })
      : new Pool("http://vault", { socketPath: options.socketPath, connections: connectionsMax });
  const exchange = async (asked: VaultRequest) => {
    const hasBody = typeof asked.json === "object" && asked.json !== null;
    const response = await request(asked.uri, {
      dispatcher,
      method: asked.method,
      headers: { ...asked.headers, ...(hasBody ? { "content-type": "application/json" } : {}) },
      ...(hasBody ? { body: JSON.stringify(asked.json) } : {}),
      signal: AbortSignal.timeout(callTimeoutMs),
    });
    const text = await response.body.text();
    return { statusCode: response.statusCode, body: parseJson(text), request: { path: new URL(asked.uri).pathname } };
  };
  return { origin: options.address ?? "http://vault", exchange, close: () => dispatcher.destroy() };
}

function parseJson(text: string): unknown {
  try {
    return text === "" ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function readToken(file: string | undefined): Promise<string> {
  if (file === undefined) throw new ForeshiftError("UNAUTHORISED", { field: "vault", detail: "no token was given" });
  try {
    return (await readFile(file, "utf8")).trim();
  } catch (thrown) {
    throw new ForeshiftError("UNAUTHORISED", { field: "vault", detail: `its token cannot be read: ${messageOf(thrown)}` });
  }
}

function missing(what: string): ForeshiftError {
  return new ForeshiftError("INVALID_FIELD", { field: "secret", value: what, detail: "Vault holds no such secret or version" });
}

function toForeshiftError(thrown: unknown, what: string, where: string): ForeshiftError {
  const status = statusOf(thrown);
  if (status === 404) return missing(what);
  if (status === 403 || status === 401) {
    return new ForeshiftError("UNAUTHORISED", { field: "vault", detail: `the token may not use ${what}` });
  }
  if (status === 503) return new ForeshiftError("NOT_READY", { value: "vault", detail: "it is sealed or standing by" });
  const detail = status === undefined ? messageOf(thrown) : `status ${status} for ${what}`;
  return new ForeshiftError("UNREACHABLE", { field: "vault", value: where, detail });
}

function statusOf(thrown: unknown): number | undefined {
  if (typeof thrown !== "object" || thrown === null || !("response" in thrown)) return undefined;
  const { response } = thrown;
  if (typeof response !== "object" || response === null || !("statusCode" in response)) return undefined;
  return typeof response.statusCode === "number" ? response.statusCode : undefined;
}
