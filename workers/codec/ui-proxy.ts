/**
 * Temporal's Web UI behind the same address as the codec: a browser that is signed in here needs no second key, and none that is not
 * gets through.
 */
import type { FastifyReply, FastifyRequest } from "fastify";
import { Pool } from "undici";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import { CODEC_LIMITS } from "../../models/limits-codec.ts";
import { withoutSession } from "./sign-in.ts";

export interface UiProxy {
  pass(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply>;
  close(): Promise<void>;
}

/** Of one connection, not of what is sent on it; and what only we need to know. */
const NOT_PASSED = new Set([
  "connection",
  "keep-alive",
  "transfer-encoding",
  "upgrade",
  "te",
  "trailer",
  "proxy-authorization",
  "expect",
  "host",
  "origin",
  "referer",
  "authorization",
]);

export function uiProxy(address: string): UiProxy {
  const { uiTimeoutMs } = CODEC_LIMITS;
  const pool = new Pool(address, {
    connections: LIMITS.http.connectionsMax,
    headersTimeout: uiTimeoutMs,
    bodyTimeout: uiTimeoutMs,
    connectTimeout: LIMITS.http.connectTimeoutMs,
  });
  return {
    pass: async (request, reply) => {
      const hasBody = request.body !== undefined && request.body !== null;
      try {
        const answer = await pool.request({
          method: request.method as "GET",
          path: request.url,
          headers: passedOn(request.headers),
          ...(hasBody ? { body: request.body as Buffer } : {}),
        });
        return await reply.code(answer.statusCode).headers(passedOn(answer.headers)).send(answer.body);
      } catch (thrown) {
        const detail = messageOf(thrown);
        throw new ForeshiftError("UNREACHABLE", { field: "Temporal's Web UI", value: address, detail });
      }
    },
    close: () => pool.destroy(),
  };
}

type Headers = Readonly<Record<string, string | string[] | undefined>>;

function passedOn(headers: Headers): Record<string, string | string[]> {
  const passed: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || NOT_PASSED.has(name)) continue;
    passed[name] = name === "cookie" && typeof value === "string" ? withoutSession(value) : value;
  }
  return passed;
}
