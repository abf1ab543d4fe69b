/** The reflex as a process: probes real WireGuard through its tunnels, ejects, lets shadows take over, survives its own death. */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, test } from "node:test";
import { pino } from "pino";
import { reflexClient } from "../../drivers/balancer/reflex-client.ts";
import { NO_RETRY, UnixHttpClient } from "../../drivers/http-unix.ts";
import { runScript, signalHost } from "../../lab/namespace.ts";
import { LIMITS } from "../../models/limits.ts";
import type { ReflexEvent, SteeringState } from "../../models/steering.ts";
import { buildBalancerLab, holderOf, member, steering, stream } from "../support/balancer-lab.ts";
import { balancerContract } from "../support/contracts/balancer.ts";
import { eventually } from "../support/eventually.ts";
import { insideNamespace } from "../support/namespace.ts";
import { awaitApi, startWorker } from "../support/process.ts";
import { startTestAgent, type TestAgent } from "../support/test-agent.ts";

const DIR = "/run/reflex";
const SOCKET = `${DIR}/reflex.sock`;
const CALL = { timeoutMs: 2_000, retry: NO_RETRY };
/** A returning endpoint is wanted soon in a test, and seconds of a noisy machine must not look like a fault. */
const OUTLIER = { missesToEject: 5, answersToReturn: 3, ejectionBaseMs: 1_000, slowStartMs: 1_000 };

if (insideNamespace(import.meta.url)) {
  mkdirSync(DIR);
  const lab = await buildBalancerLab({ endpoints: 3, sessions: 4, ipv6Share: 0.25, agentDir: DIR });
  const start = async () => {
    const worker = await startWorker({
      worker: "reflex.ts",
      config: {
        socketPath: SOCKET,
        stateDir: `${DIR}/state`,
        edgeDevice: "edge",
        serverDevice: "server",
        routerNetns: "router",
      },
      configPath: `${DIR}/config.json`,
      prefix: ["nsenter", "--net=/run/netns/lb"],
    });
    await awaitApi(http, "/v1/health");
    return worker;
  };
  const http = new UnixHttpClient({ socketPath: SOCKET, name: "reflex" });
  const reflex = reflexClient({ socketPath: SOCKET });
  let worker = await start();
  const agents: TestAgent[] = [];
  let epoch = 0;
  const apply = async (change: Partial<SteeringState> = {}) => {
    epoch += 1;
    const state = steering(lab, {
      epoch,
      ...change,
      outlier: { ...steering(lab, { epoch: 1 }).outlier, ...OUTLIER, ...change.outlier },
    });
    await reflex.apply({ operation: `test/${epoch}`, ...state });
    return state;
  };
  const events = () => reflex.events({ after: 0, waitMs: 0 });
  const eventsSince = async (seq: number) => (await events()).filter((event) => event.seq > seq);
  const toldSince = async (seq: number) =>
    (await eventsSince(seq)).map(({ text, details }) => `${text} ${JSON.stringify(details)}`).join("\n");
  const awaitEvent = async (what: string, matches: (event: ReflexEvent) => boolean, afterSeq = 0) => {
    try {
      return await eventually(what, async () => (await eventsSince(afterSeq)).find(matches), 20_000);
    } catch (thrown) {
      throw new Error(`${what} did not come; instead: ${await toldSince(afterSeq)}`, { cause: thrown });
    }
  };
  const lastSeq = async () => (await events()).at(-1)?.seq ?? 0;
  const answersAll = () =>
    eventually(
      "all members answer",
      async () => {
        const health = await reflex.health();
        return (
          health.length === 3 &&
          health.every((one) => !one.ejected && one.inner.answersInARow >= 10 && one.effectiveWeight === one.weight)
        );
      },
      20_000,
    );
  const isWireGuard = ({ name }: { name: string }) => name === "wireguard-go";

  await apply();
  const [peer] = await http.get<{ publicKey: string; innerAddresses: string[] }[]>("/v1/probe-peers", CALL);
  assert.ok(peer);
  await lab.addPeer(peer.publicKey, peer.innerAddresses);
  const clients = new Set(lab.clients.list.flatMap((client) => client.sessions.map((session) => session.peer.publicKey)));
  for (const endpoint of lab.endpoints) {
    const log = pino({ level: "silent" });
    agents.push(await startTestAgent({ endpoint, socketPath: lab.link(endpoint).agent, reflexSocket: SOCKET, clients, log }));
  }
  after(async () => {
    await Promise.all(agents.map((agent) => agent.close()));
    await worker.kill("SIGTERM");
    await Promise.all([http.close(), reflex.close()]);
    await lab.close();
  });

  test("probes go through every tunnel and outside it", async () => {
    await answersAll();
    for (const one of await reflex.health()) {
      assert.ok((one.inner.rttMsP50 ?? 1_000) < 50, `${one.endpoint}: ${one.inner.rttMsP50} ms`);
      assert.ok(one.outer.answered > 0);
    }
    for (const [endpoint, known] of [
      ["ep-1", true],
      ["nobody", false],
    ] as const) {
      const path = `/v1/endpoints/${endpoint}/sessions`;
      const { probes } = await http.put<{ probes?: { inner: { answered: number } } }>(path, { ...CALL, body: [] });
      assert.equal((probes?.inner.answered ?? 0) > 0, known);
    }
    for (const client of lab.clients.list) assert.equal((await stream(client, 20, 10)).answered, 20);
    const sentTo = async (endpoint: string) =>
      (
        await http.put<{ sentHere?: { packets: number; atMs: number } }>(`/v1/endpoints/${endpoint}/sessions`, {
          ...CALL,
          body: [],
        })
      ).sentHere;
    const first = await eventually("the router's packets are counted", () => sentTo("ep-1"));
    const later = await eventually("more of them", async () => {
      const now = await sentTo("ep-1");
      return now !== undefined && now.packets > first.packets ? now : undefined;
    });
    assert.ok(later.atMs > first.atMs);
    assert.equal(await sentTo("nobody"), undefined);
    const sessions = await eventually("all sessions are known", async () => {
      const known = await reflex.sessions();
      return known.length === clients.size && known;
    });
    for (const session of sessions) assert.ok(session.shadow !== undefined && session.shadow !== session.endpoint);
  });

  balancerContract(() => reflex);

  test("bad input is refused by field, and changes nothing", async () => {
    const before = await reflex.desired();
    assert.ok(before);
    const put = (change: object) =>
      http.put("/v1/desired", { ...CALL, body: { operation: "bad", ...before, epoch: before.epoch + 1, ...change } });
    await assert.rejects(put({ epoch: before.epoch }), { code: "STALE_EPOCH" });
    await assert.rejects(put({ members: [{ ...member(lab, "ep-1"), weight: 101 }] }), {
      code: "INVALID_FIELD",
      field: "members.0.weight",
    });
    await assert.rejects(put({ members: [member(lab, "ep-1"), member(lab, "ep-1")] }), {
      code: "DUPLICATE_NAME",
      value: "ep-1",
    });
    await assert.rejects(put({ pins: [{ client: "198.18.101.2:1", endpoint: "ep-9" }] }), {
      code: "UNKNOWN_ENDPOINT",
      value: "ep-9",
    });
    await assert.rejects(put({ pins: [{ client: "198.18.101.2:0", endpoint: "ep-1" }] }), {
      code: "INVALID_FIELD",
      field: "pins.0.client",
    });
    await assert.rejects(put({ swarm: "other" }), { code: "VIP_IN_USE", field: "swarm" });
    await assert.rejects(put({ vip: { ...before.vip, v4: "198.18.16.5" } }), { code: "VIP_IN_USE", field: "vip.v4" });
    assert.deepEqual(await reflex.desired(), before);
  });

  test("the same operation is carried out once", async () => {
    const before = await reflex.desired();
    assert.ok(before);
    epoch = before.epoch + 1;
    const body = { operation: "once", ...before, epoch };
    const first = await http.put<{ epoch: number; changed: boolean }>("/v1/desired", { ...CALL, body });
    const second = await http.put<{ epoch: number; changed: boolean }>("/v1/desired", { ...CALL, body });
    assert.deepEqual(
      [first, second],
      [
        { epoch, changed: true },
        { epoch, changed: false },
      ],
    );
    const journal = await http.get<{ operation: string; executions: number; asked: number }[]>("/v1/journal", CALL);
    const entry = journal.find(({ operation }) => operation === "once");
    assert.deepEqual([entry?.executions, entry?.asked], [1, 2]);
  });

  test("a crashed endpoint is ejected after its misses, its sessions live on at their shadows, and it returns", async () => {
    await answersAll();
    const [client] = lab.clients.list;
    assert.ok(client);
    const holder = (await holderOf(lab, client)) ?? "";
    const session = (await reflex.sessions()).find(({ publicKey }) => publicKey === client.sessions[0]?.peer.publicKey);
    const seq = await lastSeq();
    const streaming = stream(client, 400, 10);
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.equal(signalHost(holder, "SIGKILL", isWireGuard), 1);
    const ejection = await awaitEvent("the ejection", ({ kind }) => kind === "ejected", seq);
    assert.equal(ejection.endpoint, holder);
    assert.equal(ejection.details.misses, OUTLIER.missesToEject);
    const moved = await awaitEvent("the sessions' move", ({ kind }) => kind === "sessions-moved", seq);
    assert.equal(moved.details.left, 0);
    const result = await streaming;
    assert.equal(await holderOf(lab, client), session?.shadow);
    // Stock WireGuard waits 15 s before it doubts a session.
    assert.ok(result.longestGapMs < 3_000, `the longest gap was ${result.longestGapMs} ms`);
    assert.equal(result.duplicated, 0);

    await runScript("ip link del wg0 2>/dev/null || true", holder);
    await lab.startWireGuard(holder);
    await awaitEvent("the return", ({ kind, endpoint }) => kind === "returned" && endpoint === holder, seq);
    await answersAll();
    assert.equal((await stream(client, 20, 10)).answered, 20, "the session stays where it went");
  });

  test("a frozen endpoint is found as fast, and what it sends when it wakes up pulls nothing back", async () => {
    const [, client] = lab.clients.list;
    assert.ok(client);
    const holder = (await holderOf(lab, client)) ?? "";
    const seq = await lastSeq();
    const streaming = stream(client, 300, 10);
    await new Promise((resolve) => setTimeout(resolve, 300));
    signalHost(holder, "SIGSTOP", isWireGuard);
    const ejection = await awaitEvent("the ejection", ({ kind }) => kind === "ejected", seq);
    assert.equal(ejection.details.misses, OUTLIER.missesToEject);
    await awaitEvent("the sessions' move", ({ kind }) => kind === "sessions-moved", seq);
    signalHost(holder, "SIGCONT", isWireGuard);
    const result = await streaming;
    assert.ok(result.longestGapMs < 3_000, `the longest gap was ${result.longestGapMs} ms`);
    assert.notEqual(await holderOf(lab, client), holder);
    await awaitEvent("the return", ({ kind }) => kind === "returned", seq);
    await answersAll();
    assert.equal((await stream(client, 20, 10)).answered, 20);
  });

  test("an endpoint that loses probes and carries on is overloaded where nobody has room, and a dead one is dead all the same", async () => {
    await apply({ capacitySessions: 1 });
    await answersAll();
    // Of four sessions on three endpoints somebody holds two, which is more than it can; who holds one might find room elsewhere.
    const holders = await Promise.all(lab.clients.list.map(async (one) => ({ one, holder: (await holderOf(lab, one)) ?? "" })));
    const byHolder = [...Map.groupBy(holders, ({ holder }) => holder).values()];
    const [busiest] = byHolder.toSorted((one, other) => other.length - one.length);
    assert.ok(busiest?.[0] !== undefined && busiest.length > 1);
    const { one: client, holder } = busiest[0];
    const seq = await lastSeq();
    // For longer than its probes are dropped, however slowly a busy machine goes about that: silent and without traffic, it would be dead.
    const streaming = stream(client, 3_000, 2);
    await new Promise((resolve) => setTimeout(resolve, 300));
    // Its probes alone: what an overloaded machine drops of its clients' packets as well is not what this is about.
    const drop = `ip daddr ${lab.link(holder).probeAddress} udp dport ${steering(lab, { epoch: 1 }).vip.port} drop`;
    await runScript(
      `nft 'table inet test_probes { chain input { type filter hook input priority filter; ${drop}; }; }'`,
      holder,
    );
    await awaitEvent("the overload", ({ kind, endpoint }) => kind === "overloaded" && endpoint === holder, seq);
    const weight = async () => (await reflex.health()).find(({ endpoint }) => endpoint === holder);
    assert.deepEqual(
      [(await weight())?.overloaded, (await weight())?.effectiveWeight, (await weight())?.ejected],
      [true, 1, false],
    );
    await runScript("nft delete table inet test_probes", holder);
    const result = await streaming;
    assert.equal(await holderOf(lab, client), holder, `nothing was taken from it: ${await toldSince(seq)}`);
    assert.ok(result.answered > result.sent * 0.9, `${result.answered} of ${result.sent}`);

    const later = await lastSeq();
    const more = stream(client, 1_000, 2);
    await new Promise((resolve) => setTimeout(resolve, 300));
    signalHost(holder, "SIGSTOP", isWireGuard);
    const ejection = await awaitEvent("the ejection", ({ kind, endpoint }) => kind === "ejected" && endpoint === holder, later);
    // Twice as many where a busy machine has others miss a probe as well, and one for a count that took long.
    const missesMax = OUTLIER.missesToEject * LIMITS.reflex.commonSilenceFactor + 1;
    assert.ok(Number(ejection.details.misses) <= missesMax, `${Number(ejection.details.misses)} misses`);
    signalHost(holder, "SIGCONT", isWireGuard);
    await more;
    await awaitEvent("the return", ({ kind, endpoint }) => kind === "returned" && endpoint === holder, later);
    await apply();
    await answersAll();
  });

  test("an agent that is dead is no reason to eject", async () => {
    const seq = await lastSeq();
    const [first, ...rest] = agents;
    await first?.close();
    const closedAtMs = Date.now();
    await eventually("probes that are answered for three seconds more", async () => {
      const health = (await reflex.health()).find(({ endpoint }) => endpoint === "ep-1");
      return (health?.inner.lastAnswerAtMs ?? 0) > closedAtMs + 3_000;
    });
    assert.equal(
      (await events()).some((event) => event.seq > seq && event.kind === "ejected"),
      false,
    );
    agents.splice(0, agents.length, ...rest);
  });

  test("no more than the policy allows is ejected, and in a panic nobody is", async () => {
    await answersAll();
    const seq = await lastSeq();
    for (const endpoint of ["ep-2", "ep-3"]) signalHost(endpoint, "SIGSTOP", isWireGuard);
    await awaitEvent("the panic", ({ kind }) => kind === "panic", seq);
    await awaitEvent("a refusal", ({ kind }) => kind === "ejection-refused", seq);
    const out = (await events()).filter((event) => event.seq > seq && event.kind === "ejected");
    assert.ok(out.length <= 1, `${out.length} were ejected`);
    for (const endpoint of ["ep-2", "ep-3"]) signalHost(endpoint, "SIGCONT", isWireGuard);
    await answersAll();

    await apply({ outlier: { ...steering(lab, { epoch: 1 }).outlier, ...OUTLIER, panicThresholdPercent: 0 } });
    const later = await lastSeq();
    for (const endpoint of ["ep-2", "ep-3"]) signalHost(endpoint, "SIGSTOP", isWireGuard);
    const refusal = await awaitEvent("the refusal", ({ kind }) => kind === "ejection-refused", later);
    assert.equal(refusal.details.panic, false);
    assert.equal((await events()).filter((event) => event.seq > later && event.kind === "ejected").length, 1);
    for (const endpoint of ["ep-2", "ep-3"]) signalHost(endpoint, "SIGCONT", isWireGuard);
    await answersAll();
  });

  test("a reflex that is killed finds its state and touches nothing that is right", async () => {
    await apply();
    await answersAll();
    const before = await reflex.desired();
    const seq = await lastSeq();
    const client = lab.clients.list.at(-1);
    assert.ok(client);
    const [result] = await Promise.all([
      stream(client, 200, 10),
      (async () => {
        await worker.kill("SIGKILL");
        worker = await start();
      })(),
    ]);
    assert.equal(result.answered, result.sent);
    const restarted = await awaitEvent("the restart", ({ kind }) => kind === "restarted", seq);
    assert.equal(restarted.details.changed, false);
    assert.deepEqual(await reflex.desired(), before);
    const numbers = (await events()).map((event) => event.seq);
    assert.deepEqual(
      numbers,
      numbers.map((_, at) => (numbers[0] ?? 0) + at),
      "events are numbered without gaps",
    );
    await answersAll();
  });

  test("a revoked member loses its sessions to its shadows, and answering brings it back no more", async () => {
    await answersAll();
    const [client] = lab.clients.list;
    assert.ok(client);
    const holder = (await holderOf(lab, client)) ?? "";
    const seq = await lastSeq();
    const streaming = stream(client, 300, 10);
    await new Promise((resolve) => setTimeout(resolve, 500));
    await apply({ revoked: [holder] });
    const out = await awaitEvent("it is out", ({ kind, endpoint }) => kind === "ejected" && endpoint === holder, seq);
    assert.match(out.text, /for good: it was revoked/);
    const result = await streaming;
    assert.ok(result.longestGapMs < 3_000, `the longest gap was ${result.longestGapMs} ms`);
    assert.notEqual(await holderOf(lab, client), holder);
    const path = `/v1/endpoints/${holder}/sessions`;
    await assert.rejects(http.put(path, { ...CALL, body: [] }), { code: "ENDPOINT_REVOKED" });
    await eventually("it answers for longer than an ejection lasts", async () => {
      const one = (await reflex.health()).find(({ endpoint }) => endpoint === holder);
      return (one?.inner.answersInARow ?? 0) >= 15 && Date.now() - (one?.ejectedAtMs ?? 0) > 2 * OUTLIER.ejectionBaseMs;
    });
    const health = (await reflex.health()).find(({ endpoint }) => endpoint === holder);
    assert.deepEqual([health?.ejected, health?.effectiveWeight], [true, 0]);
    await worker.kill("SIGKILL");
    worker = await start();
    const after = await eventually("it knows its members", async () =>
      (await reflex.health()).find(({ endpoint }) => endpoint === holder),
    );
    assert.equal(after.ejected, true);
  });

  test("metrics name what happened", async () => {
    const { text } = await http.exchange("GET", "/metrics", CALL);
    assert.match(text, /^foreshift_reflex_ejections_total\{endpoint="ep-\d"\} [1-9]/m);
    assert.match(text, /^foreshift_reflex_steered_packets_total\{by="by_session"\} [1-9]/m);
    assert.match(text, new RegExp(`^foreshift_reflex_epoch ${epoch}$`, "m"));
  });
}
