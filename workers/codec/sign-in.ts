/**
 * Who may read payloads: a bearer token whose hash is configured, or a browser's session that began with a ticket. Tickets are good once
 * and for minutes; nothing of it outlives the process.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { CODEC_LIMITS } from "../../models/limits-codec.ts";

export interface Operator {
  /** For the audit trail. */
  readonly name: string;
  /** SHA-256 of the token, in hexadecimal. */
  readonly tokenSha256: string;
}

export interface Caller {
  readonly operator: string;
  /** Public, for the audit trail: which sign-in. */
  readonly session: string;
}

interface Entry extends Caller {
  readonly untilMs: number;
}

const SECRET_BYTES = 32;
const SESSION_NAME_BYTES = 6;
export const SESSION_COOKIE = "foreshift_session";

export class SignIn {
  readonly #operators: readonly Operator[];
  readonly #now: () => number;
  /** By the hash of the secret, so that a look at this memory lends nobody one. */
  readonly #tickets = new Map<string, Entry>();
  readonly #sessions = new Map<string, Entry>();

  constructor(operators: readonly Operator[], now: () => number = Date.now) {
    this.#operators = operators;
    this.#now = now;
  }

  /** By the `Authorization` header, or else by the `Cookie` header; undefined: nobody. */
  callerOf(headers: { readonly authorization?: string | undefined; readonly cookie?: string | undefined }): Caller | undefined {
    if (headers.authorization !== undefined) return this.byToken(headers.authorization);
    const secret = cookieOf(headers.cookie);
    return secret === undefined ? undefined : this.#live(this.#sessions, secret);
  }

  byToken(authorization: string): Caller | undefined {
    const [, token] = /^Bearer ([\x21-\x7e]+)$/.exec(authorization) ?? [];
    if (token === undefined) return undefined;
    const given = sha256(token);
    // Every one is compared, so that the time tells nothing of which it nearly was.
    const matches = this.#operators.filter(({ tokenSha256 }) => timingSafeEqual(given, Buffer.from(tokenSha256, "hex")));
    const [operator] = matches;
    return operator === undefined ? undefined : { operator: operator.name, session: "token" };
  }

  newTicket(caller: Caller): string {
    const session = randomBytes(SESSION_NAME_BYTES).toString("hex");
    return this.#issue(
      this.#tickets,
      { operator: caller.operator, session },
      CODEC_LIMITS.ticketLifeMs,
      CODEC_LIMITS.ticketsMax,
    );
  }

  /** The secret of a session for a ticket that is good; it is not good again. */
  redeem(ticket: string): { readonly secret: string; readonly caller: Caller } | undefined {
    const caller = this.#live(this.#tickets, ticket);
    if (caller === undefined) return undefined;
    this.#tickets.delete(keyOf(ticket));
    const { operator, session } = caller;
    const { sessionLifeMs, sessionsMax } = CODEC_LIMITS;
    return { secret: this.#issue(this.#sessions, { operator, session }, sessionLifeMs, sessionsMax), caller };
  }

  #issue(table: Map<string, Entry>, caller: Caller, lifeMs: number, countMax: number): string {
    const secret = randomBytes(SECRET_BYTES).toString("base64url");
    table.set(keyOf(secret), { ...caller, untilMs: this.#now() + lifeMs });
    for (const oldest of table.keys()) {
      if (table.size <= countMax) break;
      table.delete(oldest);
    }
    return secret;
  }

  #live(table: Map<string, Entry>, secret: string): Caller | undefined {
    const key = keyOf(secret);
    const entry = table.get(key);
    if (entry === undefined || entry.untilMs > this.#now()) return entry;
    table.delete(key);
    return undefined;
  }
}

/** The header without our cookie: who is behind us needs it not. */
export function withoutSession(cookie: string): string {
  const others = cookie.split(/;\s*/).filter((part) => !part.startsWith(`${SESSION_COOKIE}=`));
  return others.join("; ");
}

function cookieOf(header: string | undefined): string | undefined {
  const found = header?.split(/;\s*/).find((part) => part.startsWith(`${SESSION_COOKIE}=`));
  return found?.slice(SESSION_COOKIE.length + 1);
}

function keyOf(secret: string): string {
  return sha256(secret).toString("hex");
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
