/**
 * Temporal's codec protocol (POST /codec/decode and /codec/encode) for the Web UI and for tools, and the Web UI itself behind the same
 * door. Let in is who has an operator's token or a session that began with one; whoever reads is in the audit trail.
 */
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import type { Logger } from "pino";
import { z } from "zod";
import type { Store } from "../../drivers/ports.ts";
import { openStore } from "../../drivers/store/store.ts";
import { type Codec, openPayloadSealing } from "../../drivers/temporal-codec/codec.ts";
import { PayloadPolicy } from "../../drivers/temporal-codec/policy.ts";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { CODEC_LIMITS } from "../../models/limits-codec.ts";
import { parseInput } from "../../models/parse.ts";
import { PayloadsBody, toJson } from "./payload-json.ts";
import { type Caller, SESSION_COOKIE, SignIn } from "./sign-in.ts";
import { type UiProxy, uiProxy } from "./ui-proxy.ts";

const Origin = z.url({ protocol: /^https?$/ }).refine((text) => new URL(text).origin === text, "expected scheme://host:port");

export const CodecConfig = z.strictObject({
  listen: z.strictObject({ host: z.string().min(1).default("127.0.0.1"), port: z.int().min(1).max(65_535) }),
  /** As people's browsers see it; `https` wants a proxy with a certificate before it. */
  origin: Origin,
  /** Temporal's Web UI, served behind this door too. */
  ui: Origin.optional(),
  /** Where else the Web UI is opened: pages from there may ask, with a browser that is signed in here. No other page may. */
  uiOrigins: z.array(Origin).default([]),
  operators: z.array(z.strictObject({ name: z.string().min(1), tokenSha256: z.string().regex(/^[0-9a-f]{64}$/) })).min(1),
  databaseUrl: z.string().min(1),
  payloads: PayloadPolicy,
});
export type CodecConfig = z.infer<typeof CodecConfig>;

interface Parts {
  readonly config: CodecConfig;
  readonly codec: Codec;
  readonly store: Pick<Store, "audit">;
  readonly signIn: SignIn;
  readonly ui: UiProxy | undefined;
  readonly log: Logger;
}

/** Starts it; what it answers ends it. */
export async function startCodecServer(config: CodecConfig, log: Logger): Promise<() => Promise<void>> {
  const sealing = openPayloadSealing(config.payloads, {
    databaseUrl: config.databaseUrl,
    onTrouble: (detail) => log.warn({ event: "data-key-not-refreshed", detail }),
  });
  const { codec } = sealing;
  if (codec === undefined) {
    const detail = "plain payloads need no codec server";
    throw new ForeshiftError("INVALID_FIELD", { field: "payloads.mode", value: "plain", detail });
  }
  const store = openStore({ databaseUrl: config.databaseUrl, connectionsMax: 2 });
  const ui = config.ui === undefined ? undefined : uiProxy(config.ui);
  const app = fastify({ bodyLimit: CODEC_LIMITS.bodyBytesMax, forceCloseConnections: true });
  addRoutes(app, { config, codec, store, signIn: new SignIn(config.operators), ui, log });
  await app.listen(config.listen);
  return async () => {
    await app.close();
    await Promise.all([sealing.close(), store.close(), ui?.close()]);
  };
}

function addRoutes(app: FastifyInstance, parts: Parts): void {
  const { config, codec, signIn, ui } = parts;
  const callers = new WeakMap<FastifyRequest, Caller>();
  answerErrors(app, parts.log);
  // Everything is read as bytes: the Web UI's own requests pass through untouched.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_, body, done) => done(null, body));
  app.addHook("onRequest", async (request, reply) => {
    checkPlace(config, request);
    allowOrigin(config, request, reply);
    if (request.method === "OPTIONS" || isOpen(request)) return;
    const caller = signIn.callerOf(request.headers);
    if (caller === undefined) await refuse(parts, request);
    else callers.set(request, caller);
  });
  app.options("/codec/*", async (_, reply) => reply.code(204).send());
  const callerOf = (request: FastifyRequest): Caller => callers.get(request) ?? { operator: "nobody", session: "none" };
  for (const [path, action, work] of [
    ["/codec/decode", "read payloads", codec.decode],
    ["/codec/encode", "seal payloads", codec.encode],
  ] as const) {
    app.post(path, async (request, reply) => {
      const { payloads } = parseInput(PayloadsBody, jsonOf(request.body), "body");
      await audit(parts, callerOf(request), action);
      const made = await work(
        payloads.map(({ metadata, data }) => ({ metadata: metadata ?? {}, data: data ?? new Uint8Array() })),
      );
      return await reply.header("cache-control", "no-store").send({ payloads: made.map(toJson) });
    });
  }
  app.post("/tickets", (request) => {
    // A session may not lengthen itself.
    const caller = signIn.byToken(request.headers.authorization ?? "");
    if (caller === undefined)
      throw new ForeshiftError("UNAUTHORISED", { field: "the codec server", detail: "a token is needed" });
    return { address: `${config.origin}/enter?ticket=${signIn.newTicket(caller)}` };
  });
  app.get<{ Querystring: { ticket?: string } }>("/enter", async (request, reply) => {
    const entered = signIn.redeem(request.query.ticket ?? "");
    if (entered === undefined) return await refuse(parts, request);
    await audit(parts, entered.caller, "sign in");
    const secure = config.origin.startsWith("https:") ? "; Secure" : "";
    const life = `Max-Age=${CODEC_LIMITS.sessionLifeMs / 1_000}`;
    const cookie = `${SESSION_COOKIE}=${entered.secret}; HttpOnly; SameSite=Strict; Path=/; ${life}${secure}`;
    return await reply
      .headers({ "set-cookie": cookie, "cache-control": "no-store", "referrer-policy": "no-referrer" })
      .redirect("/", 303);
  });
  if (ui !== undefined) app.all("/*", (request, reply) => ui.pass(request, reply));
}

/** What somebody who is not signed in may ask for. */
function isOpen({ url }: FastifyRequest): boolean {
  return url.startsWith("/enter?") || url === "/tickets";
}

/** Another name for this address (DNS rebinding), and pages from elsewhere, are turned away before anything is looked at. */
function checkPlace({ origin, uiOrigins, ui }: CodecConfig, { headers }: FastifyRequest): void {
  const allowed = [origin, ...(ui === undefined ? [] : [ui]), ...uiOrigins];
  const wrongHost = headers.host !== new URL(origin).host;
  if (!wrongHost && (headers.origin === undefined || allowed.includes(headers.origin))) return;
  const detail = wrongHost ? `it is reached at ${origin}` : "pages of this origin may not ask";
  throw new ForeshiftError("UNAUTHORISED", { field: "the codec server", detail });
}

function allowOrigin({ origin: own }: CodecConfig, { headers }: FastifyRequest, reply: FastifyReply): void {
  reply.header("vary", "Origin");
  reply.header("x-content-type-options", "nosniff");
  const { origin } = headers;
  if (origin === undefined || origin === own) return;
  reply.headers({
    "access-control-allow-origin": origin,
    "access-control-allow-credentials": "true",
    "access-control-allow-methods": "POST",
    "access-control-allow-headers": "content-type, authorization, x-namespace",
    "access-control-max-age": "600",
  });
}

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** One row for each sign-in, kind of use and hour; without it nothing is opened. */
async function audit({ store }: Parts, { operator, session }: Caller, action: string): Promise<void> {
  const hour = new Date(Math.floor(Date.now() / HOUR_MS) * HOUR_MS).toISOString().slice(0, 13);
  await store.audit({
    operation: `codec/${operator}/${session}/${hour}`,
    action,
    swarm: "*",
    endpoint: undefined,
    outcome: "done",
    text: `${operator} may ${action} from ${hour}:00Z on, by the sign-in ${session}`,
    workflowId: undefined,
    runId: undefined,
    details: {},
  });
}

/** One row a minute, however often it happens: the trail must not be flooded. */
async function refuse({ store, log }: Parts, { ip, url }: FastifyRequest): Promise<never> {
  const minute = new Date(Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS).toISOString().slice(0, 16);
  log.warn({ event: "refused", from: ip, path: url.split("?", 1)[0] });
  await store
    .audit({
      operation: `codec/refused/${minute}`,
      action: "read payloads",
      swarm: "*",
      endpoint: undefined,
      outcome: "refused",
      text: `Somebody at ${ip} has no valid token, session or ticket`,
      workflowId: undefined,
      runId: undefined,
      details: {},
    })
    .catch((thrown: unknown) => log.warn({ event: "refusal-not-audited", detail: messageOf(thrown) }));
  const detail = "sign in with the address that `npx foreshift ui` prints; it is good once, for five minutes";
  throw new ForeshiftError("UNAUTHORISED", { field: "the codec server", detail });
}

function jsonOf(body: unknown): unknown {
  try {
    return JSON.parse(Buffer.isBuffer(body) ? body.toString("utf8") : "");
  } catch {
    throw new ForeshiftError("INVALID_FIELD", { field: "body", value: "a request", detail: "it is not JSON" });
  }
}

function answerErrors(app: FastifyInstance, log: Logger): void {
  app.setErrorHandler((thrown, request, reply) => {
    const error = asForeshiftError(thrown);
    if (error.code === "INTERNAL")
      log.error({ event: "request-failed", path: request.url.split("?", 1)[0], detail: messageOf(thrown) });
    return reply.code(error.httpStatus).send(error.toBody());
  });
}

function asForeshiftError(thrown: unknown): ForeshiftError {
  if (thrown instanceof ForeshiftError) return thrown;
  const status = typeof thrown === "object" && thrown !== null && "statusCode" in thrown ? thrown.statusCode : undefined;
  if (status === 413) {
    const detail = `at most ${CODEC_LIMITS.bodyBytesMax} bytes`;
    return new ForeshiftError("INVALID_FIELD", { field: "body", value: "a request", detail });
  }
  return new ForeshiftError("INTERNAL", { detail: messageOf(thrown) });
}
