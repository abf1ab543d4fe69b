// What EC2 tells an instance beforehand, and what it leads to.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { scoreEvidence } from "../../models/evidence.ts";
import { InstanceNotices } from "../../workers/agent/instance-notices.ts";
import { type MetadataServer, startMetadata } from "../support/aws/metadata.ts";
import { eventually } from "../support/eventually.ts";
import { specOf } from "./fixtures.ts";

/** Other tests may hold the processors. */
const PATIENCE_MS = 30_000;
let metadata: MetadataServer;
let opened: InstanceNotices;
beforeEach(async () => {
  metadata = await startMetadata();
  opened = new InstanceNotices({ kind: "ec2", metadataUrl: metadata.url }, PATIENCE_MS);
});
afterEach(async () => {
  opened.close();
  await metadata.close();
});

test("notices are seen when they come, and when the token has to be another", async () => {
  await eventually("it has asked", () => Object.keys(opened.gauges()).length === 2, PATIENCE_MS);
  assert.deepEqual(opened.gauges(), { interruptionNotice: 0, rebalanceNotice: 0 });
  metadata.texts.set("meta-data/events/recommendations/rebalance", "{}");
  const before = metadata.tokensGiven();
  await opened.look();
  assert.deepEqual(opened.gauges(), { interruptionNotice: 0, rebalanceNotice: 1 });
  assert.equal(metadata.tokensGiven(), before, "a token is kept");
  metadata.token = "token-2";
  metadata.texts.set("meta-data/spot/instance-action", '{"action":"terminate"}');
  await opened.look();
  assert.deepEqual(opened.gauges(), { interruptionNotice: 1, rebalanceNotice: 1 });
});

test("a service that does not answer says nothing, not that all is well", async () => {
  await eventually("it has asked", () => Object.keys(opened.gauges()).length === 2, PATIENCE_MS);
  await metadata.close();
  await opened.look();
  assert.deepEqual(opened.gauges(), {});
  await metadata.open();
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
