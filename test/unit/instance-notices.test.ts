// A metadata service that answers as EC2's does: a token first. There is no such service outside of EC2.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, test } from "node:test";
import { scoreEvidence } from "../../models/evidence.ts";
import { InstanceNotices } from "../../workers/agent/instance-notices.ts";
import { eventually } from "../support/eventually.ts";
import { specOf } from "./fixtures.ts";

/** Other tests may hold the processors. */
const PATIENCE_MS = 30_000;
const notices = new Set<string>();
let token = "token-1";
let tokensGiven = 0;
const server = createServer((request, response) => {
  const answer = (status: number, text = "") => response.writeHead(status).end(text);
  if (
    request.method === "PUT" &&
    request.url === "/latest/api/token" &&
    request.headers["x-aws-ec2-metadata-token-ttl-seconds"]
  ) {
    tokensGiven += 1;
    answer(200, token);
  } else if (request.headers["x-aws-ec2-metadata-token"] !== token) answer(401);
  else if (notices.has(request.url ?? "")) answer(200, '{"action":"terminate","time":"2026-11-21T12:00:00Z"}');
  else answer(404);
});

let opened: InstanceNotices;
beforeEach(async () => {
  notices.clear();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const metadataUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  opened = new InstanceNotices({ kind: "ec2", metadataUrl }, PATIENCE_MS);
});
afterEach(async () => {
  opened.close();
  server.closeAllConnections();
  server.close();
  await once(server, "close");
});

test("notices are seen when they come, and when the token has to be another", async () => {
  await eventually("it has asked", () => Object.keys(opened.gauges()).length === 2, PATIENCE_MS);
  assert.deepEqual(opened.gauges(), { interruptionNotice: 0, rebalanceNotice: 0 });
  notices.add("/latest/meta-data/events/recommendations/rebalance");
  const before = tokensGiven;
  await opened.look();
  assert.deepEqual(opened.gauges(), { interruptionNotice: 0, rebalanceNotice: 1 });
  assert.equal(tokensGiven, before, "a token is kept");
  token = "token-2";
  notices.add("/latest/meta-data/spot/instance-action");
  await opened.look();
  assert.deepEqual(opened.gauges(), { interruptionNotice: 1, rebalanceNotice: 1 });
});

test("a service that does not answer says nothing, not that all is well", async () => {
  await eventually("it has asked", () => Object.keys(opened.gauges()).length === 2, PATIENCE_MS);
  const closed = once(server, "close");
  server.close();
  server.closeAllConnections();
  await closed;
  await opened.look();
  assert.deepEqual(opened.gauges(), {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});

test("an interruption is nearly certain; a recommendation alone moves nobody", () => {
  const scoreOf = (series: string) => {
    const evidence = {
      endpoint: "ep-1",
      atMs: 60_000,
      sessions: 10,
      series: { [series]: [{ atMs: 59_000, value: 1 }] },
      medianRttMs: 1,
      outside: { value: 0, terms: [] },
    };
    return scoreEvidence(evidence, specOf());
  };
  const { failureThreshold } = specOf().foresight;
  assert.ok(scoreOf("interruptionNotice").failure.low >= 0.9);
  const { failure, terms } = scoreOf("rebalanceNotice");
  assert.ok(failure.value < failureThreshold && failure.value > 0.3);
  assert.match(terms[0]?.text ?? "", /likely to take its Spot capacity back/);
});
