// Who is let in by the codec server: tokens by their hash, tickets once and not for long, sessions for a day's work.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { CODEC_LIMITS } from "../../models/limits-codec.ts";
import { SESSION_COOKIE, SignIn, withoutSession } from "../../workers/codec/sign-in.ts";

const hash = (token: string) => createHash("sha256").update(token).digest("hex");
const OPERATORS = [
  { name: "olga", tokenSha256: hash("one") },
  { name: "otto", tokenSha256: hash("two") },
];
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const session = (secret: string) => ({ cookie: `theme=dark; ${SESSION_COOKIE}=${secret}; _csrf=x` });

function atNoon() {
  const clock = { nowMs: 43_200_000 };
  return { clock, door: new SignIn(OPERATORS, () => clock.nowMs) };
}

test("a token names its operator; anything else names nobody", () => {
  const { door } = atNoon();
  assert.deepEqual(door.callerOf(bearer("two")), { operator: "otto", session: "token" });
  for (const authorization of ["Bearer three", "Bearer ", "Bearer one two", "Basic one", "one", `Bearer ${hash("one")}`])
    assert.equal(door.callerOf({ authorization }), undefined, authorization);
  assert.equal(door.callerOf({}), undefined);
  assert.equal(door.callerOf(session("one")), undefined);
});

test("a ticket is good once and for its minutes; the session that it begins ends too", () => {
  const { clock, door } = atNoon();
  const olga = door.byToken("Bearer one");
  assert.ok(olga !== undefined);
  const ticket = door.newTicket(olga);
  const late = door.newTicket(olga);
  const entered = door.redeem(ticket);
  assert.ok(entered !== undefined);
  assert.equal(entered.caller.operator, "olga");
  assert.equal(door.redeem(ticket), undefined);
  assert.equal(door.callerOf(session(ticket)), undefined, "a ticket is no session");
  assert.deepEqual(door.callerOf(session(entered.secret)), { ...door.callerOf(session(entered.secret)), operator: "olga" });
  assert.equal(door.redeem(entered.secret), undefined, "a session is no ticket");
  clock.nowMs += CODEC_LIMITS.ticketLifeMs;
  assert.equal(door.redeem(late), undefined);
  clock.nowMs += CODEC_LIMITS.sessionLifeMs;
  assert.equal(door.callerOf(session(entered.secret)), undefined);
});

test("tickets and sessions are bounded: the oldest go", () => {
  const { door } = atNoon();
  const olga = door.byToken("Bearer one") ?? { operator: "", session: "" };
  const secrets = Array.from({ length: CODEC_LIMITS.sessionsMax + 1 }, () => door.redeem(door.newTicket(olga))?.secret ?? "");
  assert.equal(door.callerOf(session(secrets[0] ?? "")), undefined);
  assert.equal(door.callerOf(session(secrets.at(-1) ?? ""))?.operator, "olga");
  const tickets = Array.from({ length: CODEC_LIMITS.ticketsMax + 1 }, () => door.newTicket(olga));
  assert.equal(door.redeem(tickets[0] ?? ""), undefined);
  assert.notEqual(door.redeem(tickets[1] ?? ""), undefined);
});

test("who is behind the door does not see the key to it", () => {
  assert.equal(withoutSession(session("secret").cookie), "theme=dark; _csrf=x");
});
