// The follow-up on a handshake that an endpoint began: when it is repeated, when it is settled, when it is left alone.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { DevicePeer } from "../../drivers/tunnel/wireguard-device.ts";
import { LIMITS } from "../../models/limits.ts";
import { type Adoption, adoptionStep } from "../../workers/agent/adoption.ts";
import { sessionOf } from "../support/sessions.ts";

const BEGUN_AT_MS = 50_000;
const begun: Adoption = { session: sessionOf(1, "ep-1"), begunAtMs: BEGUN_AT_MS, attempts: 1, handshakeAtMs: undefined };
const peer = (over: Partial<DevicePeer>): DevicePeer => ({
  publicKey: begun.session.publicKey,
  endpoint: undefined,
  allowedIps: [],
  lastHandshakeMs: 0,
  rxBytes: 0,
  txBytes: 0,
  keepaliveS: 1,
  ...over,
});

/** Runs an adoption that nobody answers, a look every 25 ms, and tells when it did what. */
function unanswered(): { repeatsMs: number[]; endMs: number } {
  const repeatsMs: number[] = [];
  let adoption = begun;
  for (let ms = 0; ; ms += 25) {
    const step = adoptionStep(adoption, peer({}), BEGUN_AT_MS + ms);
    if (step.kind === "repeat") repeatsMs.push(ms);
    if (step.kind === "given-up") return { repeatsMs, endMs: ms };
    assert.notEqual(step.kind, "settled");
    adoption = step.next;
  }
}

test("an unanswered handshake is repeated with growing pauses, then left to WireGuard", () => {
  assert.deepEqual(unanswered(), { repeatsMs: [250, 750, 1_750, 3_750], endMs: LIMITS.agent.adoptGiveUpMs });
});

test("no repetition is closer to the one before than a peer's flood protection and the rounding of TAI64N allow", () => {
  const times = [0, ...unanswered().repeatsMs];
  for (let n = 1; n < times.length; n += 1) assert.ok((times[n] ?? 0) - (times[n - 1] ?? 0) >= 50);
});

test("a handshake with data after it is settled at once; one without is kept warm for a while", () => {
  const at = BEGUN_AT_MS + 10;
  assert.equal(adoptionStep(begun, peer({ lastHandshakeMs: at, rxBytes: 92 + 32 }), at).kind, "settled");
  const quiet = peer({ lastHandshakeMs: at, rxBytes: 92 });
  const first = adoptionStep(begun, quiet, at);
  assert.equal(first.kind, "wait");
  assert.equal(adoptionStep(first.next, quiet, at + LIMITS.agent.adoptWarmMs - 1).kind, "wait");
  assert.equal(adoptionStep(first.next, quiet, at + LIMITS.agent.adoptWarmMs).kind, "settled");
});

test("a peer that is not in the device is begun again like an unanswered one", () => {
  assert.equal(adoptionStep(begun, undefined, BEGUN_AT_MS + 250).kind, "repeat");
});
