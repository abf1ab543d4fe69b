// A planned move at the endpoints' agents: the one that takes a session over makes SAs of its own while what the client sends by them waits; the
// other says goodbye.
import assert from "node:assert/strict";
import { test } from "node:test";
import { pino } from "pino";
import type { HeldIpsec } from "../../models/ipsec/wire.ts";
import { IPSEC_LIMITS } from "../../models/limits-ipsec.ts";
import { IpsecHub } from "../../workers/collector/ipsec-hub.ts";
import { eventually } from "../support/eventually.ts";
import { clientSession, type TestEndpoint, testEndpoint } from "../support/ipsec-endpoint.ts";

const log = pino({ level: "silent" });
const [HOLDER, TAKER] = ["gw-1", "gw-2"];
const MADE_SPI = 512;

async function withBoth(story: (holder: TestEndpoint, taker: TestEndpoint) => Promise<void>): Promise<void> {
  const candidates = [HOLDER, TAKER].map((endpoint) => ({ endpoint, zone: endpoint, room: 100 }));
  const hub = new IpsecHub({ candidates: () => candidates, log });
  const endpoints = [testEndpoint("lab", HOLDER, hub), testEndpoint("lab", TAKER, hub)] as const;
  for (const { gateway } of endpoints) gateway.start();
  try {
    await story(...endpoints);
  } finally {
    await Promise.all(endpoints.map(({ gateway }) => gateway.stop()));
  }
}

function give(endpoint: TestEndpoint, n: number, isAnew = false): void {
  const { sas, view } = clientSession(n);
  const step = isAnew ? MADE_SPI : 0;
  endpoint.kernel.sas.push(
    ...sas.map((state) => (isAnew ? { ...state, spi: state.spi + step, inboundSequence: 0, outboundSequence: 0 } : state)),
  );
  const children = view.children.map((child) => ({
    ...child,
    inboundSpi: child.inboundSpi + step,
    outboundSpi: child.outboundSpi + step,
  }));
  const initiatorSpi = isAnew ? view.initiatorSpi.replaceAll("a", "c") : view.initiatorSpi;
  endpoint.views.push({ ...view, uniqueId: `${n + step}`, initiatorSpi, children });
}

async function heldBy({ gateway }: TestEndpoint, count: number): Promise<readonly HeldIpsec[]> {
  await eventually("it holds them", () => gateway.moves.held().length === count);
  return gateway.moves.held();
}

test("what the client sends by new SAs waits until they are there; up is what the balancer knows of, and then it says goodbye elsewhere", async () => {
  await withBoth(async (holder, taker) => {
    give(holder, 1);
    const [held] = await heldBy(holder, 1);
    assert.deepEqual([held?.client, held?.children, held?.received], ["198.18.0.9", ["net"], 90]);
    const order = { operation: "move", sessions: held === undefined ? [] : [held] };
    const answered = Promise.withResolvers<void>();
    taker.answer = async () => {
      await answered.promise;
      give(taker, 1, true);
    };
    assert.deepEqual(await taker.gateway.moves.adopt(order), [{ session: held?.session, state: "begun", received: false }]);
    await eventually("the client is called", () => taker.initiated.length === 1);
    assert.deepEqual(taker.done, ["hold 198.18.0.9", "initiate"]);
    answered.resolve();
    const outcome = await eventually("it is up", async () => {
      const [one] = await taker.gateway.moves.adopt(order);
      return one?.state === "up" && one;
    });
    assert.deepEqual(taker.done, ["hold 198.18.0.9", "initiate", "release"]);
    assert.equal(outcome.received, false, "nothing has come yet");
    assert.notEqual(outcome.made, held?.session);
    assert.deepEqual(
      taker.steering?.sessions.map(({ session }) => session),
      [outcome.made],
      "the balancer was told before",
    );
    taker.kernel.count(0xc0_00_00_01 + MADE_SPI, 1);
    const [sent] = await taker.gateway.moves.adopt(order);
    assert.equal(sent?.received, true);
    assert.deepEqual(taker.initiated, ["net/net"], "asked again it does not call again");
    assert.equal(await holder.gateway.moves.letGo({ sessions: [held?.session ?? ""] }), 1);
    assert.deepEqual(holder.done, ["terminate 1"]);
    assert.deepEqual(holder.gateway.moves.held(), []);
    await eventually("the balancer knows", () => holder.steering?.sessions.length === 0 && holder.steering.held.length === 0);
    assert.equal(await holder.gateway.moves.letGo({ sessions: [held?.session ?? ""] }), 0, "what is not there is no failure");
    const spis = (endpoint: TestEndpoint) => endpoint.kernel.sas.map(({ spi }) => spi);
    assert.ok(spis(taker).length === 2 && spis(holder).length === 0, "no SA was ever in two kernels");
    assert.ok([...holder.kernel.lines, ...taker.kernel.lines].every((line) => !line.startsWith("xfrm state")));
  });
});

test("an IKE SA of before, whose SAs others went on with, ends before the client is called", async () => {
  await withBoth(async (holder, taker) => {
    give(holder, 1);
    const sessions = await heldBy(holder, 1);
    taker.views.push({ ...clientSession(1).view, uniqueId: "77", responderSpi: "e".repeat(16) });
    taker.views.push({ ...clientSession(2).view, uniqueId: "78" });
    taker.answer = () => give(taker, 1, true);
    const ask = () => taker.gateway.moves.adopt({ operation: "move", sessions });
    await eventually("it is up", async () => (await ask())[0]?.state === "up");
    assert.deepEqual(taker.done, ["terminate 77", "hold 198.18.0.9", "initiate", "release"]);
  });
});

test("policies that went with a session of its own are there again for those that it shadows", async () => {
  await withBoth(async (holder, taker) => {
    give(holder, 1);
    give(taker, 2);
    const policies = () => taker.kernel.lines.filter((line) => line.startsWith("xfrm policy update"));
    await eventually("it shadows the other's session", () => policies().length === 3);
    const [own] = await heldBy(taker, 1);
    await taker.gateway.moves.letGo({ sessions: [own?.session ?? ""] });
    await eventually("the policies are put once more", () => policies().length === 6);
    assert.deepEqual(policies().slice(3), policies().slice(0, 3));
  });
});

test("a client that does not answer keeps the next one waiting for as long as ESP may wait, and is said to have failed", async () => {
  await withBoth(async (holder, taker) => {
    give(holder, 1);
    give(holder, 2);
    const sessions = await heldBy(holder, 2);
    let refuse: (why: Error) => void = () => undefined;
    taker.answer = () => {
      if (taker.initiated.length > 1) return give(taker, 2, true);
      return new Promise<void>((_, reject) => (refuse = reject));
    };
    const byClient = [...sessions].sort((one, other) => (one.client < other.client ? -1 : 1)).toReversed();
    const askedAtMs = performance.now();
    const ask = () => taker.gateway.moves.adopt({ operation: "move", sessions: byClient });
    await ask();
    await eventually("the second is up", async () => (await ask())[1]?.state === "up", IPSEC_LIMITS.holdMsMax * 3);
    const waitedMs = performance.now() - askedAtMs;
    assert.ok(waitedMs >= IPSEC_LIMITS.holdMsMax && waitedMs < IPSEC_LIMITS.holdMsMax * 2, `${waitedMs} ms`);
    assert.deepEqual(
      taker.done.map((what) => what.split(" ")[0]),
      ["hold", "initiate", "release", "hold", "initiate", "release"],
    );
    refuse(new Error("no answer"));
    const failed = await eventually("the first has failed", async () => {
      const [one] = await ask();
      return one?.state === "failed" && one;
    });
    assert.equal(failed.detail, "no answer");
  });
});
