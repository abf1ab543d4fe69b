// IPsec in the product's own hands: two gateways with agents and a stock client, each a virtual machine, and collector, Vault and the reflex
// beside them. A gateway dies, which is to say that it stands still; nobody but these processes does anything about it. Then it goes on, and the
// other is drained by the workflow, which must lose nothing; at last one is left without being asked to move anything.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, readFile } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { after, type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { NO_RETRY, UnixHttpClient } from "../../drivers/http-unix.ts";
import { VirtualMachine } from "../../drivers/qemu/virtual-machine.ts";
import { writeCredentials } from "../../drivers/vault/credentials.ts";
import type { MemberHealth, ReflexEvent } from "../../models/steering.ts";
import { buildImage } from "../../setup/image/build.ts";
import { setUp, setUpMachines, setUpTcpdump } from "../../setup/set-up.ts";
import type { IpsecStatus } from "../../workers/agent/ipsec/gateway.ts";
import { eventually } from "../support/eventually.ts";
import { startControl } from "../support/ipsec-fleet/control.ts";
import {
  agentConfig,
  CLIENT_INNER,
  clientStart,
  desiredState,
  EDGE,
  gatewayDaemon,
  gatewayStart,
  hostAddress,
  hostNetwork,
  inner,
  MARKS,
  type Mark,
  management,
  managementAddress,
  nameOf,
  outer,
  RELAYED,
  SERVER,
  SERVER_DEVICE,
  swanctl,
} from "../support/ipsec-fleet/layout.ts";
import { whyNoLongMachines } from "../support/machines.ts";
import { insideNamespace, run } from "../support/namespace.ts";
import { awaitApi, startWorker } from "../support/process.ts";
import { testHome, testOpenBao, testPostgres } from "../support/services.ts";
import { withVault } from "../support/test-vault.ts";
import { genkey, pubkey } from "../support/wireguard-lab.ts";

const IMAGE = "FORESHIFT_TEST_IMAGE";
const CALL = { timeoutMs: 5_000, retry: NO_RETRY };
const GUESTS_MS = 420_000;
const ASKED_EVERY_MS = 300;
const AFTER_MS = 2_000;
/** Of the counters of a session before. */
const WORDS_FIRST = 40;
const QUICK = { answers: 5, answerMs: 200 };
const MEMORY_BYTES = 512 * 1024 ** 2;
/** Emulated guests that start Node and strongSwan. */
const STARTED_MS = 120_000;

const skip = await whyNoLongMachines();
if (skip !== false) test("agents and the reflex take an IPsec session over", { skip }, () => undefined);
else {
  if (process.env[IMAGE] === undefined) {
    await setUp({ quiet: true });
    await setUpMachines(() => undefined);
    await setUpTcpdump(() => undefined);
    process.env[IMAGE] = (await buildImage()).image.folder;
  }
  if (insideNamespace(import.meta.url, GUESTS_MS)) suite();
}

function suite(): void {
  const ends: (() => unknown)[] = [];
  /** What the processes logged, for a test that failed. */
  const logs: (() => Promise<string>)[] = [];
  after(async () => {
    for (const end of ends.toReversed()) await end();
  });

  async function services() {
    const where = await testHome();
    ends.push(() => where.remove());
    await mkdir(join(where.run, "agents"), { recursive: true, mode: 0o700 });
    const postgres = await testPostgres(where, { migrated: true });
    ends.push(() => postgres.stop());
    const bao = await testOpenBao(where);
    ends.push(() => bao.stop());
    const swarmKey = genkey();
    const keySecret = await withVault(bao, ({ kv }) => kv.write("swarms/lab/wireguard", { privateKey: swarmKey }));
    const socket = (name: string) => join(where.run, `${name}.sock`);
    const collector = await startWorker({
      worker: "collector.ts",
      config: { socketPath: socket("collector"), databaseUrl: postgres.url },
      configPath: join(where.home, "collector.json"),
    });
    ends.push(() => collector.kill());
    const credentials = async (mark: Mark) => {
      const file = join(where.home, `gw${mark}.approle`);
      const role = { swarm: "lab", endpoint: nameOf(mark) };
      await writeCredentials(file, await withVault(bao, ({ appRoles }) => appRoles.enrolAgent(role)));
      return await readFile(file);
    };
    return { where, bao, keySecret, swarmPublicKey: pubkey(swarmKey), socket, credentials };
  }

  async function boot({ where, keySecret, credentials }: Awaited<ReturnType<typeof services>>) {
    const launch = async (
      name: string,
      taps: readonly { device: string; mac: string }[],
      files: Record<string, string | Buffer>,
    ) => {
      const folder = join(where.home, name);
      await mkdir(folder, { mode: 0o700 });
      const drive = Object.entries({ hostname: name, ...files }).map(([path, content]) => ({ path, content }));
      const machine = await VirtualMachine.launch({
        name,
        image: process.env[IMAGE] ?? "",
        folder,
        files: drive,
        taps,
        memoryBytes: MEMORY_BYTES,
      });
      ends.push(() => machine.terminate());
      return machine;
    };
    const gateways = new Map<Mark, VirtualMachine>();
    for (const mark of MARKS)
      gateways.set(
        mark,
        await launch(nameOf(mark), [outer(mark), inner(mark), management(mark)], {
          start: gatewayStart(mark),
          "gateway.conf": swanctl("gateway"),
          "daemon.conf": gatewayDaemon(),
          "agent.json": agentConfig(mark, keySecret),
          "agent.approle": await credentials(mark),
        }),
      );
    const client = await launch("client", [{ device: EDGE.device, mac: EDGE.clientMac }], {
      start: clientStart(),
      "client.conf": swanctl("client"),
    });
    run("sh", "-c", hostNetwork());
    const gateway = (mark: Mark) => {
      const machine = gateways.get(mark);
      assert.ok(machine !== undefined);
      return machine;
    };
    return { gateway, client };
  }

  const script = async (guest: VirtualMachine, text: string): Promise<string> => {
    const { status, stdout, stderr } = await guest.run(["/usr/bin/sh", "-euc", `PATH=/usr/sbin:/usr/bin\n${text}`], {
      timeoutMs: 90_000,
    });
    assert.equal(status, 0, `${stderr}${stdout}`);
    return stdout;
  };

  test("a session goes on by its SPIs at the other gateway, which then has an IKE SA of its own", async (t) => {
    try {
      await story(t);
    } catch (thrown) {
      for (const log of logs) t.diagnostic(await log().catch(String));
      throw thrown;
    }
  });

  async function story(t: TestContext): Promise<void> {
    const fleet = await services();
    const { where, socket, bao, swarmPublicKey } = fleet;
    const { gateway, client } = await boot(fleet);
    for (const mark of MARKS) {
      logs.push(() => script(gateway(mark), "for log in /run/*.log; do echo == $log; tail -n 40 $log; done"));
      await relay(mark, { collector: socket("collector"), reflex: socket("reflex"), vault: bao.socket ?? "" });
    }
    const agentSocket = (mark: Mark) => join(where.run, "agents", `${nameOf(mark)}.sock`);
    for (const mark of MARKS)
      await listening(
        pipe(() => connect(RELAYED.agent, managementAddress(mark))),
        agentSocket(mark),
      );
    const reflexProcess = await startWorker({
      worker: "reflex.ts",
      config: {
        socketPath: socket("reflex"),
        stateDir: join(where.home, "reflex"),
        edgeDevice: EDGE.device,
        serverDevice: SERVER_DEVICE,
        ipsec: true,
      },
      configPath: join(where.home, "reflex.json"),
    });
    ends.push(() => reflexProcess.kill());
    const reflex = httpTo(socket("reflex"), "reflex");
    logs.push(async () => `== reflex\n${reflexProcess.log().slice(-6_000)}`);
    logs.push(async () => JSON.stringify(await reflex.get("/v1/health", CALL)));
    await awaitApi(reflex, "/v1/health");
    startEcho();
    const desire = async (marks: readonly Mark[]) => {
      const held = await reflex.get<{ readonly epoch: number } | null>("/v1/desired", CALL);
      const epoch = (held?.epoch ?? 0) + 1;
      await reflex.put("/v1/desired", { ...CALL, body: desiredState({ epoch, marks }, swarmPublicKey, agentSocket) });
    };
    await desire(MARKS);
    const control = await startControl(socket("reflex"), MARKS.map(nameOf));
    ends.push(() => control.stop());
    for (const machine of [client, ...MARKS.map(gateway)]) await machine.ready();
    const begun = "tries=0; until [ -e /run/ready ]; do tries=$((tries + 1)); [ $tries -lt 300 ]; sleep 0.2; done";
    await script(client, begun);
    const load = (file: string, at: string) =>
      `tries=0; until swanctl --load-all --file /run/config/${file} ${at}; do tries=$((tries + 1)); [ $tries -lt 300 ]; sleep 0.2; done`;
    for (const mark of MARKS) await script(gateway(mark), `${begun}\n${load("gateway.conf", "--uri unix:///run/charon.vici")}`);
    await eventually(
      "both gateways answer the reflex's probes",
      async () =>
        (await reflex.get<MemberHealth[]>("/v1/health", CALL)).filter(({ inner: { answersInARow } }) => answersInARow > 5)
          .length === 2,
      STARTED_MS,
    );
    const agents = new Map(MARKS.map((mark) => [mark, httpTo(agentSocket(mark), nameOf(mark))] as const));
    await eventually("both agents have started, and answer at once", () => areQuick([...agents.values()]), STARTED_MS);
    // Asked without a pause, an emulated processor would do nothing else.
    const statusOf = async (mark: Mark) => {
      await delay(ASKED_EVERY_MS);
      return await agents.get(mark)?.get<IpsecStatus>("/v1/ipsec", CALL);
    };
    const statuses = () => Promise.all(MARKS.map(async (mark) => ({ mark, ...(await statusOf(mark)) })));
    const shadowedHolder = async () => {
      const own = (await statuses()).find((status) => status.own === 1);
      const isShadowed = (await statuses()).some(
        ({ mark, shadowed, opened }) => mark !== own?.mark && shadowed === 1 && opened === true,
      );
      return isShadowed ? own?.mark : undefined;
    };
    const pings = startPings();
    const initiate = "swanctl --initiate --child net --timeout 60";
    await script(client, `${load("client.conf", "")}\n${initiate}`);
    const first = await eventually("one holds a session, and the other shadows it", shadowedHolder, STARTED_MS);
    // What agents do for the first time they do slowly: the session that is to go on is another one.
    await eventually(
      "its counters come",
      async () => ((await statusOf(first === 1 ? 2 : 1))?.lagsMs.count ?? 0) > WORDS_FIRST,
      STARTED_MS,
    );
    await script(client, "swanctl --terminate --ike net");
    await eventually(
      "it has ended",
      async () => (await statuses()).every(({ own, shadowed }) => own === 0 && shadowed === 0),
      30_000,
    );
    const wire = startWire();
    await script(client, initiate);
    const holder = await eventually("one holds the session, and the other shadows it", shadowedHolder, STARTED_MS);
    const shadow: Mark = holder === 1 ? 2 : 1;
    const answered = pings.answers.length;
    await eventually("packets pass", () => pings.answers.length > answered + 50, 30_000);
    const lags = (await statusOf(shadow))?.lagsMs;

    await gateway(holder).suspend();
    const event = async (kind: string, mark = holder, after = 0) =>
      (await reflex.get<ReflexEvent[]>(`/v1/events?after=${after}`, CALL)).find(
        (one) => one.kind === kind && one.endpoint === nameOf(mark),
      );
    const ejected = await eventually("it is ejected", () => event("ejected"), 20_000);
    const moved = await eventually("the shadow has answered", () => event("sessions-moved"), 20_000);
    const backAtMs = await eventually(
      "packets pass again",
      () => pings.answers.find(({ atMs }) => atMs > ejected.atMs)?.atMs,
      30_000,
    );
    await eventually("the shadow has a session of its own", async () => (await statusOf(shadow))?.own === 1, 60_000);
    const handshakeAtMs = Date.now();
    await eventually("packets pass by it", () => pings.answers.some(({ atMs }) => atMs > handshakeAtMs), 10_000);
    t.diagnostic(
      JSON.stringify({
        detectionMs: ejected.details["silentMs"],
        recoverMs: Math.round(backAtMs - ejected.atMs),
        takeover: moved.details,
        newIkeSaMs: handshakeAtMs - ejected.atMs,
        lags,
        packets: wire.packets(),
      }),
    );
    assert.equal(moved.details["goneOn"], 1, moved.text);

    await gateway(holder).resume();
    await gateway(holder).correctClock();
    await eventually("it is back", () => event("returned"), STARTED_MS);
    await eventually(
      "what it held before is out of its kernel",
      async () => (
        await delay(ASKED_EVERY_MS), !(await script(gateway(holder), "ip xfrm state list nokeys")).includes("proto esp")
      ),
      20_000,
    );

    const isShadow = async (mark: Mark) => {
      const status = await statusOf(mark);
      return status?.shadowed === 1 && status.opened;
    };
    await eventually("it is the shadow of what it held before", () => isShadow(holder), STARTED_MS);

    const plannedAtMs = Date.now();
    const planned = await control.drain(nameOf(shadow));
    const tookMs = Date.now() - plannedAtMs;
    for (const { action, text } of control.trail) t.diagnostic(`${action}: ${text}`);
    assert.deepEqual([planned.outcome, planned.sessionsMoved], ["drained", 1], planned.text);
    await delay(AFTER_MS);
    t.diagnostic(JSON.stringify({ planned: { tookMs, lost: pings.lostSince(plannedAtMs) } }));
    assert.equal(pings.lostSince(plannedAtMs), 0, "a planned move loses no packet");
    assert.equal(await event("sessions-moved", shadow), undefined, "nothing was left to hand over");
    assert.ok(!(await script(gateway(shadow), "ip xfrm state list nokeys")).includes("proto esp"), "it holds no SA any more");
    assert.equal((await statusOf(holder))?.own, 1);

    await desire(MARKS);
    await eventually("the other is its shadow again", () => isShadow(shadow), STARTED_MS);
    const leftAtMs = Date.now();
    await desire([shadow]);
    const left = await eventually(
      "the one that is left hands it over",
      () => event("sessions-moved", holder, moved.seq),
      20_000,
    );
    await eventually("packets pass by it", () => pings.answers.some(({ atMs }) => atMs > left.atMs), 10_000);
    await delay(AFTER_MS);
    t.diagnostic(JSON.stringify({ left: left.details, lost: pings.lostSince(leftAtMs) }));
    assert.deepEqual([left.details["goneOn"], left.details["handedOver"]], [1, true], left.text);
    assert.ok(wire.packets() > 0);
    assert.deepEqual(wire.notGrowing(), [], "numbers of the gateways' packets grow strictly");
    for (const mark of MARKS) {
      const logged = await script(gateway(mark), "cat /run/agent.log");
      assert.doesNotMatch(logged, /0x[0-9a-f]{32}/, "no key is logged");
      assert.doesNotMatch(logged, /ipsec-not-held/);
      if (mark === shadow) assert.match(logged, /"event":"ipsec-handshake"/);
    }
    pings.stop();
  }

  /** What an emulated processor does for the first time it does slowly. */
  async function areQuick(agents: readonly UnixHttpClient[]): Promise<boolean> {
    for (const agent of agents)
      for (let n = 0; n < QUICK.answers; n += 1) {
        await delay(ASKED_EVERY_MS);
        const askedAtMs = performance.now();
        await agent.get("/v1/ipsec", CALL);
        if (performance.now() - askedAtMs > QUICK.answerMs) return false;
      }
    return true;
  }

  function httpTo(socketPath: string, name: string): UnixHttpClient {
    const client = new UnixHttpClient({ socketPath, name });
    ends.push(() => client.close());
    return client;
  }

  /** Streams of bytes both ways; what ends on one side ends on the other. */
  function pipe(to: () => ReturnType<typeof connect>): Server {
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true }, (near) => {
      const far = to();
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        one.on("error", () => other.destroy());
        one.pipe(other);
        sockets.add(one);
      }
    });
    ends.push(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    return server;
  }

  function listening(server: Server, ...where: [string] | [number, string]): Promise<void> {
    return new Promise((resolve) => {
      const [first, host] = where;
      if (typeof first === "string") server.listen(first, resolve);
      else server.listen(first, host, resolve);
    });
  }

  async function relay(mark: Mark, sockets: Record<"collector" | "reflex" | "vault", string>): Promise<void> {
    for (const name of ["collector", "reflex", "vault"] as const)
      await listening(
        pipe(() => connect(sockets[name])),
        RELAYED[name],
        hostAddress(mark),
      );
  }

  /** What the reflex's probes are answered by, behind the gateways. */
  function startEcho(): void {
    const program = `const s = require("dgram").createSocket("udp4"); s.on("message", (m, { address, port }) => s.send(m, port, address)); s.bind(7, "${SERVER}")`;
    const child = spawn("ip", ["netns", "exec", "server", process.execPath, "-e", program], { stdio: "ignore" });
    ends.push(() => child.kill("SIGKILL"));
  }

  function startPings() {
    const answers: { readonly atMs: number; readonly number: number }[] = [];
    const args = ["netns", "exec", "server", "ping", "-D", "-n", "-I", SERVER, "-i", "0.1", "-s", "64", CLIENT_INNER];
    const child = spawn("ip", args, { stdio: ["ignore", "pipe", "ignore"] });
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      for (const [, at, number] of text.matchAll(/^\[(\d+\.\d+)\] .*icmp_seq=(\d+) ttl/gm))
        answers.push({ atMs: Number(at) * 1_000, number: Number(number) });
    });
    const stop = () => void child.kill("SIGKILL");
    ends.push(stop);
    /** Numbers between the last answer before then and the newest that no answer came to. */
    const lostSince = (sinceMs: number) => {
      const before = Math.max(...answers.flatMap(({ atMs, number }) => (atMs < sinceMs ? [number] : [])));
      const since = answers.flatMap(({ number }) => (number > before ? [number] : []));
      return Math.max(before, ...since) - before - new Set(since).size;
    };
    return { answers, stop, lostSince };
  }

  /** ESP from the gateways to the client, as it passes on the client's link. */
  function startWire() {
    const last = new Map<string, number>();
    const notGrowing: string[] = [];
    let packets = 0;
    let rest = "";
    const args = ["-i", EDGE.device, "-n", "-l", "--immediate-mode", "-Z", "root", "esp", "and", "src", "198.19.0.1"];
    const child = spawn("tcpdump", args, { stdio: ["ignore", "pipe", "ignore"] });
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const [, spi = "", hex = "0"] = /ESP\(spi=(0x[0-9a-f]+),seq=(0x[0-9a-f]+)\)/.exec(line) ?? [];
        if (spi === "") continue;
        packets += 1;
        const sequence = Number(hex);
        if (sequence <= (last.get(spi) ?? 0)) notGrowing.push(`${spi} ${sequence}`);
        last.set(spi, Math.max(sequence, last.get(spi) ?? 0));
      }
    });
    ends.push(() => child.kill("SIGKILL"));
    return { packets: () => packets, notGrowing: () => notGrowing };
  }
}
