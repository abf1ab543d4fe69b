// Where the reflex sends IPsec sessions of an endpoint that is out, and what it tells their shadows of the numbers that passed.
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { pino } from "pino";
import type { IpsecAgent, LeavingIpsecAgent } from "../../drivers/tunnel/agent-client.ts";
import type { SteeredSession, SteeringWord, TakeOverOrder } from "../../models/ipsec/wire.ts";
import { IPSEC_LIMITS } from "../../models/limits-ipsec.ts";
import { SteeringState } from "../../models/steering.ts";
import { EventJournal } from "../../workers/reflex/event-journal.ts";
import { IpsecFailover } from "../../workers/reflex/ipsec.ts";
import { IpsecBook } from "../../workers/reflex/ipsec-book.ts";
import { ReflexState } from "../../workers/reflex/state.ts";
import { viewOf } from "../../workers/reflex/view.ts";
import { holds } from "../support/property.ts";

const log = pino({ level: "silent" });

function sessionOf(n: number, shadow?: string): SteeredSession {
  return {
    session: n.toString(16).padStart(32, "0"),
    client: `198.18.${n >> 8}.${n & 255}`,
    connection: "net",
    child: "net",
    innerAddresses: [`10.9.${n >> 8}.${n & 255}`],
    ...(shadow === undefined ? {} : { shadow }),
    inbound: [{ spi: 0xc0_00_00_00 + n, sequence: 1_000 }],
  };
}

function wordOf(...sessions: readonly SteeredSession[]): SteeringWord {
  return { sessions: [...sessions], held: sessions.flatMap(({ inbound }) => inbound.map(({ spi }) => spi)) };
}

test("SPIs lead to who reports them, and to the shadow from the moment that it is given the session", () => {
  const book = new IpsecBook();
  const [one, other] = [sessionOf(1, "gw-3"), sessionOf(2)];
  assert.deepEqual(book.put("gw-1", wordOf(one, other)), { steers: true, arrived: [one, other] });
  book.put("gw-2", wordOf());
  book.put("gw-3", wordOf());
  assert.equal(book.put("gw-1", wordOf(one, other)).steers, false);
  const moves = book.moveAll("gw-1", new Set(["gw-2", "gw-3"]), 1_000);
  assert.equal(moves.find(({ session }) => session === one)?.to, "gw-3");
  const spis = book.spis();
  assert.equal(spis.get(one.inbound[0]?.spi ?? 0), "gw-3");
  assert.equal(book.pins().get(one.client), "gw-3");
  // It thaws, and says that it has them still.
  assert.deepEqual(book.put("gw-1", wordOf(one, other)).arrived, []);
  assert.deepEqual(book.spis(), spis);
  assert.deepEqual(new Set(book.wentFrom("gw-1")), new Set(spis.keys()));
  assert.deepEqual(book.moveAll("gw-1", new Set(["gw-2", "gw-3"]), 2_000), [], "what it lost once it does not lose again");
});

test("a shadow that dies before it has an IKE SA of its own passes the session on; after that its own session goes", () => {
  const book = new IpsecBook();
  for (const endpoint of ["gw-1", "gw-2", "gw-3"]) book.put(endpoint, wordOf());
  const first = sessionOf(1, "gw-2");
  book.put("gw-1", wordOf(first));
  book.moveAll("gw-1", new Set(["gw-2", "gw-3"]), 1_000);
  const early = new IpsecBook();
  early.load(structuredClone(book.snapshot()));
  assert.deepEqual(
    early.moveAll("gw-2", new Set(["gw-3"]), 2_000).map(({ session, to }) => [session.session, to]),
    [[first.session, "gw-3"]],
  );
  const own = { ...sessionOf(9, "gw-3"), client: first.client };
  book.put("gw-2", { ...wordOf(own), held: [...wordOf(own).held, ...wordOf(first).held] }, 1_500);
  assert.deepEqual(
    book.moveAll("gw-2", new Set(["gw-3"]), 2_000).map(({ session, to }) => [session.session, to]),
    [[own.session, "gw-3"]],
  );
  assert.equal(book.pins().get(first.client), "gw-3");
  book.forgetBeyond(new Set(["gw-2"]), 3_000);
  assert.equal(book.pins().size, 0);
});

test("whoever dies in whatever order, a session is only ever given to a gateway that is fit, and to one alone", (context) => {
  const names = ["gw-1", "gw-2", "gw-3", "gw-4"];
  const property = fc.property(
    fc.array(fc.tuple(fc.constantFrom(...names), fc.option(fc.constantFrom(...names), { nil: undefined })), { maxLength: 20 }),
    fc.shuffledSubarray(names, { maxLength: 3 }),
    (held, deaths) => {
      const book = new IpsecBook();
      for (const name of names) {
        const own = held.flatMap(([holder, shadow], n) => (holder === name ? [sessionOf(n + 1, shadow)] : []));
        book.put(name, wordOf(...own));
      }
      const fit = new Set(names);
      for (const dead of deaths) {
        fit.delete(dead);
        for (const { to } of book.moveAll(dead, fit, 1_000)) assert.ok(fit.has(to));
        for (const [, holder] of book.spis()) assert.ok(fit.has(holder), `${holder} is dead`);
      }
      assert.equal(book.spis().size, held.length);
    },
  );
  holds(context, property, 300);
});

async function failover(
  agents: Readonly<Record<string, IpsecAgent | undefined>>,
  passed: ReadonlyMap<string, string>,
  handOver: LeavingIpsecAgent["handOverIpsec"] = () => Promise.reject(new Error("it does not answer")),
) {
  const stateDir = await mkdtemp(join(tmpdir(), "fs-ipsec-"));
  const state = new ReflexState();
  const done: string[] = [];
  const fails: string[] = [];
  const events = new EventJournal(join(stateDir, "events.ndjson"), log);
  await events.load();
  state.setMembers(["gw-1", "gw-2", "gw-3"]);
  for (const [endpoint, record] of state.records) state.records.set(endpoint, { ...record, proven: true });
  state.fit = () => new Set(["gw-2", "gw-3"]);
  const ipsec = new IpsecFailover({
    state,
    book: state.ipsec,
    stateDir,
    agentOf: (endpoint) => agents[endpoint],
    leaving: ({ endpoint }) => ({
      handOverIpsec: (order) => (done.push(`hand over ${endpoint} ${order.spis.join()}`), handOver(order)),
      close: () => Promise.resolve(),
    }),
    push: () => (fails.length > 0 ? Promise.reject(new Error(fails[0])) : Promise.resolve(done.push("push"))),
    routeTo: (sessions) => Promise.resolve(void done.push(...sessions.map(({ endpoint }) => `route ${endpoint}`))),
    passed: () => Promise.resolve(passed),
    events,
    log,
  });
  const end = async () => {
    await events.close();
    await rm(stateDir, { recursive: true });
  };
  return { state, ipsec, done, fails, events, stateDir, end };
}

test("ways back go before the order, which says what passed; a deaf shadow's sessions go to another", async () => {
  const orders: TakeOverOrder[] = [];
  const deaf: IpsecAgent = { takeOverIpsec: () => Promise.reject(new Error("away")), retireIpsec: () => Promise.resolve() };
  const able: IpsecAgent = {
    takeOverIpsec: (order) => {
      orders.push(order);
      done.push("order gw-3");
      const outcome = {
        goneOn: 0,
        outboundJump: 0,
        inboundJump: 0,
        refusals: ["not-shadowed: this endpoint holds no copy of it"],
      };
      return Promise.resolve(order.sessions.map(({ session }) => ({ session, ...outcome })));
    },
    retireIpsec: () => Promise.resolve(),
  };
  const spi = 0xc0_00_00_01;
  const passed = new Map([[`${spi} . 1008`, "1"]]);
  const { state, ipsec, done, events, stateDir, end } = await failover({ "gw-2": deaf, "gw-3": able }, passed);
  try {
    for (const endpoint of ["gw-2", "gw-3"]) await ipsec.heard(endpoint, wordOf());
    await ipsec.heard("gw-1", wordOf(sessionOf(1, "gw-2"), sessionOf(2, "gw-3"), sessionOf(3, "gw-3")));
    done.length = 0;
    const lateMs = Date.now() + IPSEC_LIMITS.passedTimeoutMs + 1;
    await ipsec.carryOut(ipsec.assign("gw-1", lateMs));
    assert.deepEqual(done.slice(0, 4), ["push", "route gw-2", "route gw-3", "route gw-3"]);
    assert.ok(done.indexOf("order gw-3") > 3);
    assert.ok(done.lastIndexOf("push") > 3 && done.lastIndexOf("route gw-3") > 3, "packets follow to the other");
    const asked = orders.flatMap(({ sessions }) => sessions);
    const passedOf = (n: number) => asked.find(({ session }) => session === sessionOf(n).session)?.passed;
    assert.deepEqual(passedOf(1), [{ spi, atMost: 1_008 + IPSEC_LIMITS.passedBlock - 1 }]);
    assert.deepEqual(passedOf(2), [{ spi: spi + 1, nothing: true }]);
    assert.equal(state.ipsec.spis().get(spi), "gw-3");
    const told = await events.after(0, 0);
    assert.ok(told.some(({ text }) => text.includes("2 clients get a new handshake: not-shadowed")));
    const kept = await readFile(join(stateDir, "ipsec.json"), "utf8");
    assert.equal(JSON.parse(kept).moves.length, 3);
  } finally {
    await end();
  }
});

test("nobody is ordered to go on while the packet path could not be brought to fence the endpoint before", async () => {
  const orders: TakeOverOrder[] = [];
  const able: IpsecAgent = {
    takeOverIpsec: (order) => Promise.resolve((orders.push(order), [])),
    retireIpsec: () => Promise.resolve(),
  };
  const { ipsec, fails, end } = await failover({ "gw-2": able }, new Map());
  try {
    await ipsec.heard("gw-2", wordOf());
    await ipsec.heard("gw-1", wordOf(sessionOf(1, "gw-2")));
    fails.push("nft: no");
    await assert.rejects(ipsec.carryOut(ipsec.assign("gw-1", Date.now())), /nft: no/);
    assert.equal(orders.length, 0);
  } finally {
    await end();
  }
});

const leaver = (endpoint: string) => ({ endpoint, link: { agent: `/run/${endpoint}.sock` } });

test("what an endpoint holds that is no member any more is given to its shadows: packets, ways back, then its last numbers", async () => {
  const orders: TakeOverOrder[] = [];
  const able: IpsecAgent = {
    takeOverIpsec: (order) => Promise.resolve((orders.push(order), [])),
    retireIpsec: () => Promise.resolve(),
  };
  const last = { ageMs: 3, counters: [{ spi: 0xc0_00_00_01, sequence: 77 }] };
  const { state, ipsec, done, events, end } = await failover({ "gw-2": able }, new Map(), () => Promise.resolve(last));
  try {
    await ipsec.heard("gw-2", wordOf());
    await ipsec.heard("gw-1", wordOf(sessionOf(1, "gw-2")));
    done.length = 0;
    const leaving = ipsec.leave([leaver("gw-1")], Date.now());
    state.ipsec.forgetBeyond(new Set(["gw-2", "gw-3"]), Date.now());
    await leaving;
    assert.deepEqual(done, ["push", "route gw-2", `hand over gw-1 ${0xc0_00_00_01}`]);
    assert.deepEqual(
      orders.map(({ from, sessions, handedOver }) => [from, sessions.length, handedOver]),
      [["gw-1", 1, last]],
    );
    assert.equal((await events.after(0, 0)).at(-1)?.details["handedOver"], true);
    assert.equal(state.ipsec.spis().get(0xc0_00_00_01), "gw-2");
    await ipsec.leave([leaver("gw-1")], Date.now());
    assert.equal(orders.length, 1);
  } finally {
    await end();
  }
});

test("one that is left and does not answer is as if it had crashed, and nobody hands over while the packet path cannot be changed", async () => {
  const orders: TakeOverOrder[] = [];
  const able: IpsecAgent = {
    takeOverIpsec: (order) => Promise.resolve((orders.push(order), [])),
    retireIpsec: () => Promise.resolve(),
  };
  const { ipsec, done, fails, end } = await failover({ "gw-2": able }, new Map());
  try {
    await ipsec.heard("gw-2", wordOf());
    await ipsec.heard("gw-1", wordOf(sessionOf(1, "gw-2")));
    await ipsec.heard("gw-3", wordOf(sessionOf(2, "gw-2")));
    await ipsec.leave([leaver("gw-1")], Date.now());
    assert.deepEqual(
      orders.map(({ from, handedOver }) => [from, handedOver]),
      [["gw-1", undefined]],
    );
    done.length = 0;
    fails.push("nft is busy");
    await assert.rejects(ipsec.leave([leaver("gw-3")], Date.now()), /nft is busy/);
    assert.deepEqual([done, orders.length], [[], 1]);
  } finally {
    await end();
  }
});

test("an endpoint that is back and still takes what others go on with is told so, until it does not", async () => {
  const retired: (readonly number[])[] = [];
  const agent: IpsecAgent = {
    takeOverIpsec: () => Promise.resolve([]),
    retireIpsec: ({ spis }) => (
      retired.push(spis), retired.length === 1 ? Promise.reject(new Error("away")) : Promise.resolve()
    ),
  };
  const { state, ipsec, end } = await failover({ "gw-1": agent, "gw-2": agent }, new Map());
  try {
    const word = wordOf(sessionOf(1, "gw-2"));
    await ipsec.heard("gw-2", wordOf());
    await ipsec.heard("gw-1", word);
    assert.equal(retired.length, 0);
    await ipsec.carryOut(ipsec.assign("gw-1", Date.now()));
    const record = state.record("gw-1");
    state.records.set("gw-1", { ...record, ejectedAtMs: Date.now() });
    await ipsec.heard("gw-1", word);
    assert.equal(retired.length, 0, "while it is out it could not hear");
    state.records.set("gw-1", record);
    await ipsec.retire("gw-1");
    await ipsec.heard("gw-1", word);
    await ipsec.heard("gw-1", wordOf());
    assert.deepEqual(retired, [[0xc0_00_00_01], [0xc0_00_00_01]]);
  } finally {
    await end();
  }
});

test("a client that has a session elsewhere by now is pinned there, and ways back that could not be set are set with the next word", async () => {
  const { state, ipsec, done, fails, end } = await failover({}, new Map());
  try {
    const old = sessionOf(1);
    await ipsec.heard("gw-1", wordOf(old));
    await ipsec.heard("gw-2", wordOf());
    assert.deepEqual(
      [state.ipsec.countOf("gw-1"), state.ipsec.countOf("gw-2"), state.ipsec.countOf("gw-3")],
      [1, 0, undefined],
    );
    assert.equal(state.ipsec.pins().size, 0);
    const made = { ...sessionOf(2), client: old.client, innerAddresses: old.innerAddresses };
    fails.push("nft is busy");
    done.length = 0;
    await assert.rejects(ipsec.heard("gw-2", wordOf(made)), /nft is busy/);
    assert.deepEqual(done, []);
    fails.length = 0;
    await ipsec.heard("gw-2", wordOf(made));
    await ipsec.heard("gw-2", wordOf(made));
    assert.deepEqual(done, ["route gw-2"]);
    assert.equal(state.ipsec.pins().get(old.client), "gw-2");
    const spiOf = ({ inbound }: SteeredSession) => inbound[0]?.spi ?? 0;
    assert.deepEqual(
      [old, made].map((session) => state.ipsec.spis().get(spiOf(session))),
      ["gw-1", "gw-2"],
      "both can be read while both are there",
    );
    await ipsec.heard("gw-1", wordOf());
    assert.deepEqual(ipsec.assign("gw-1", Date.now()), [], "who let its sessions go has nothing to hand over");
    const kept = new IpsecBook();
    kept.load(structuredClone(state.ipsec.snapshot()));
    assert.equal(kept.pins().get(old.client), "gw-2");
    kept.moveAll("gw-2", new Set(["gw-3", "gw-1"]), Date.now() + 1);
    assert.equal(kept.pins().get(old.client), "gw-1", "what happened last counts");
    kept.forgetBeyond(new Set(["gw-3"]), Date.now());
    assert.equal(kept.pins().size, 0);
  } finally {
    await end();
  }
});

test("what an endpoint went on with, and gave away by plan since, is not given away again when it leaves", () => {
  const book = new IpsecBook();
  const first = sessionOf(1, "gw-2");
  for (const endpoint of ["gw-2", "gw-3"]) book.put(endpoint, wordOf(), 500);
  book.put("gw-1", wordOf(first), 500);
  book.moveAll("gw-1", new Set(["gw-2", "gw-3"]), 1_000);
  const own = { ...sessionOf(2), client: first.client };
  book.put("gw-2", wordOf(own), 2_000);
  book.put("gw-1", wordOf(), 2_500);
  const planned = { ...sessionOf(3), client: first.client };
  book.put("gw-1", wordOf(planned), 3_000);
  book.put("gw-2", wordOf(), 4_000);
  assert.deepEqual(book.moveAll("gw-2", new Set(["gw-1", "gw-3"]), 5_000), []);
  assert.equal(book.pins().get(first.client), "gw-1");
});

test("while a session is moved by plan its client is pinned to who takes it over, unless that one is out", () => {
  const state = new ReflexState();
  state.setMembers(["gw-1", "gw-2"]);
  state.ipsec.put("gw-1", wordOf(sessionOf(1)));
  const [client, gone] = [sessionOf(1).client, sessionOf(2).client];
  const link = {
    device: "a0",
    mac: "02:00:00:00:00:01",
    returnDevice: "b0",
    returnMac: "02:00:00:00:00:02",
    probeAddress: "192.0.2.1",
    probeInnerAddress: "10.67.0.1",
    agent: "/run/agent.sock",
  };
  const desired = SteeringState.parse({
    swarm: "lab",
    epoch: 1,
    vip: { v4: "198.19.0.1", port: 51_820 },
    algorithm: "consistent-hash",
    swarmPublicKey: "",
    members: ["gw-1", "gw-2"].map((endpoint) => ({ endpoint, weight: 100, draining: false, link })),
    pins: [],
    ipsecPins: [
      { client, endpoint: "gw-2", from: "gw-1" },
      { client: gone, endpoint: "gw-9", from: "gw-1" },
    ],
    returnRoutes: [],
    outlier: {},
  });
  const { pins, spis } = viewOf(state, desired).ipsec;
  assert.deepEqual(pins, new Map([[client, state.slots.get("gw-2")]]));
  assert.deepEqual([...spis.values()], [state.slots.get("gw-1")], "what it has goes on where it is");
  state.records.set("gw-2", { ...state.record("gw-2"), ejectedAtMs: 1 });
  assert.equal(viewOf(state, desired).ipsec.pins.size, 0);
});

test("of an SPI that the table has not counted for long, or might have lost, nothing is said", async () => {
  const orders: TakeOverOrder[] = [];
  const able: IpsecAgent = {
    takeOverIpsec: (order) => Promise.resolve((orders.push(order), [])),
    retireIpsec: () => Promise.resolve(),
  };
  const { ipsec, end } = await failover({ "gw-2": able }, new Map());
  try {
    await ipsec.heard("gw-2", wordOf());
    await ipsec.heard("gw-1", wordOf(sessionOf(1, "gw-2")));
    ipsec.doubt();
    await ipsec.carryOut(ipsec.assign("gw-1", Date.now()));
    assert.deepEqual(orders[0]?.sessions[0]?.passed, []);
  } finally {
    await end();
  }
});
