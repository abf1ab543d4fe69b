// The tunnel driver against real WireGuard: wireguard-go by its control socket and by `wg`, in network namespaces of this test.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { atDataPathPriority } from "../../drivers/priority.ts";
import { findInterface, startInterface, stopInterface } from "../../drivers/tunnel/wireguard.ts";
import type { PeerChange, WireGuardDevice } from "../../drivers/tunnel/wireguard-device.ts";
import { toolDevice } from "../../drivers/tunnel/wireguard-tool.ts";
import { uapiDevice } from "../../drivers/tunnel/wireguard-uapi.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import { eventually } from "../support/eventually.ts";
import { insideNamespace, run } from "../support/namespace.ts";

const BULK_PEERS = 200;
const CLIENT_PORT = 41_000;
const SINK_PORT_FIRST = 42_000;

const genkey = () => run("wg", "genkey").trim();
function pubkey(privateKey: string): string {
  return run("sh", "-c", 'printf %s "$0" | wg pubkey', privateKey).trim();
}

if (insideNamespace(import.meta.url)) {
  const swarmKey = genkey();
  const clientKey = genkey();
  let stateDir: string;

  const options = () => ({
    device: "wg-t",
    listenPort: 51_820,
    mtu: 1_420,
    addresses: ["10.99.0.1/32"],
    routes: ["10.66.0.0/16"],
    privateKey: () => Promise.resolve(swarmKey),
    implementation: "userspace" as const,
    stateDir,
  });
  const client = { publicKey: pubkey(clientKey), innerAddresses: ["10.66.1.1"] };

  before(async () => {
    stateDir = await mkdtemp(join(tmpdir(), "fs-wg-"));
    run("ip", "netns", "add", "c");
    run(
      "sh",
      "-c",
      "ip link add to-c type veth peer name eth0 netns c && ip addr add 198.18.0.1/24 dev to-c && ip link set to-c up",
    );
    run("sh", "-c", "ip -n c addr add 198.18.0.2/24 dev eth0 && ip -n c link set eth0 up && ip -n c link set lo up");
    await startClient();
  });

  after(async () => {
    await rm(stateDir, { recursive: true, force: true });
  });

  async function startClient(): Promise<void> {
    const env = { ...process.env, WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD: "1", LOG_LEVEL: "error" };
    const command = atDataPathPriority(["wireguard-go", "-f", "wg-c"]);
    spawn("ip", ["netns", "exec", "c", ...command], { env, stdio: "ignore" }).unref();
    const device = uapiDevice("wg-c");
    await eventually("the client's WireGuard answers", () => device.state().catch(() => undefined));
    await device.setIdentity({ privateKey: clientKey, listenPort: CLIENT_PORT });
    await device.apply([{ kind: "configure", publicKey: pubkey(swarmKey), innerAddresses: ["10.99.0.1"] }]);
    run(
      "sh",
      "-c",
      "ip -n c addr add 10.66.1.1/32 dev wg-c && ip -n c link set wg-c up && ip -n c route add 10.99.0.1/32 dev wg-c",
    );
  }

  const adoptChanges = (): PeerChange[] => [
    { kind: "remove", publicKey: client.publicKey },
    { kind: "configure", ...client, endpoint: `198.18.0.2:${CLIENT_PORT}`, keepaliveS: 25 },
  ];

  const handshakeOf = async (device: WireGuardDevice) =>
    (await device.state()).peers.find((peer) => peer.publicKey === client.publicKey)?.lastHandshakeMs ?? 0;

  test("starts, hands over a session by initiating the handshake itself, and is adopted with its session untouched", async () => {
    const started = await startInterface(options());
    assert.equal(started.adopted, false);
    const sentAt = Date.now();
    await started.device.apply(adoptChanges());
    const handshakeMs = await eventually("the handshake", async () => (await handshakeOf(started.device)) || undefined, 2_000);
    assert.ok(handshakeMs >= sentAt && handshakeMs - sentAt < 1_000, `handshake after ${handshakeMs - sentAt} ms`);
    run("ip", "netns", "exec", "c", "ping", "-c1", "-W2", "10.99.0.1");

    await started.device.apply([{ kind: "keepalive", publicKey: client.publicKey, keepaliveS: 0 }]);
    const again = await startInterface(options());
    assert.equal(again.adopted, true);
    const peer = (await again.device.state()).peers[0];
    assert.equal(peer?.lastHandshakeMs, handshakeMs);
    assert.equal(peer?.keepaliveS, 0);
    assert.deepEqual(peer?.allowedIps, ["10.66.1.1/32"]);
    assert.equal(peer?.endpoint, `198.18.0.2:${CLIENT_PORT}`);
  });

  test("all its threads go before whatever else computes, where that is permitted", async (t) => {
    if (spawnSync("chrt", ["--rr", "1", "true"]).status !== 0) return t.skip("this user may run nothing in real time");
    const { pid } = JSON.parse(await readFile(join(stateDir, "wireguard.json"), "utf8")) as { pid: number };
    const policies = run("chrt", "--all-tasks", "--pid", String(pid)).match(/policy: \S+/g) ?? [];
    assert.ok(policies.length > 1, "it has more than one thread");
    assert.deepEqual([...new Set(policies)], ["policy: SCHED_RR"]);
  });

  test("both ways of control see and change the same; a second adoption starts a handshake though a session is held", async () => {
    for (const device of [toolDevice("wg-t"), uapiDevice("wg-t")]) {
      // By the control socket: `wg` tells whole seconds only.
      const before = await handshakeOf(uapiDevice("wg-t"));
      // A peer takes one initiation in 20 ms and needs a later TAI64N stamp, which wireguard-go rounds to 17 ms.
      await eventually("the last handshake is old enough", () => Date.now() > before + 40);
      await device.apply(adoptChanges());
      await eventually("a newer handshake", async () => (await handshakeOf(uapiDevice("wg-t"))) > before, 3_000);
      await device.apply([{ kind: "keepalive", publicKey: client.publicKey, keepaliveS: 0 }]);
      run("ip", "netns", "exec", "c", "ping", "-c1", "-W2", "10.99.0.1");
    }
    const [byTool, byUapi] = [await toolDevice("wg-t").state(), await uapiDevice("wg-t").state()];
    const coarse = (state: typeof byTool) =>
      state.peers.map((peer) => ({ ...peer, lastHandshakeMs: Math.floor(peer.lastHandshakeMs / 1_000) }));
    assert.deepEqual(coarse(byUapi), coarse(byTool));
    assert.equal(byTool.listenPort, 51_820);
  });

  test("retire forgets session and address and keeps the peer; a keepalive for an absent peer adds nothing", async () => {
    for (const device of [toolDevice("wg-t"), uapiDevice("wg-t")]) {
      await device.apply([
        { kind: "remove", publicKey: client.publicKey },
        { kind: "configure", ...client },
      ]);
      const peer = (await device.state()).peers[0];
      assert.deepEqual({ handshake: peer?.lastHandshakeMs, endpoint: peer?.endpoint }, { handshake: 0, endpoint: undefined });
    }
    await uapiDevice("wg-t").apply([{ kind: "keepalive", publicKey: pubkey(genkey()), keepaliveS: 5 }]);
    assert.equal((await uapiDevice("wg-t").state()).peers.length, 1);
  });

  test(`adopts ${BULK_PEERS} sessions in one go: a handshake leaves for each`, async () => {
    const sink = spawn(
      "ip",
      ["netns", "exec", "c", process.execPath, "-e", SINK, String(SINK_PORT_FIRST), String(BULK_PEERS)],
      {
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    try {
      let output = "";
      sink.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
      await eventually("the sink listens", () => output.includes("ready"));
      const changes = Array.from({ length: BULK_PEERS }, (_, n): PeerChange => {
        const publicKey = Buffer.from(Array.from({ length: 32 }, (_, i) => (i * 7 + n) % 256)).toString("base64");
        return {
          kind: "configure",
          publicKey,
          innerAddresses: [`10.66.2.${n}`],
          endpoint: `198.18.0.2:${SINK_PORT_FIRST + n}`,
          keepaliveS: 25,
        };
      });
      const from = Date.now();
      await uapiDevice("wg-t").apply(changes);
      const applyMs = Date.now() - from;
      await eventually("a handshake for each", () => output.includes("all"), 5_000);
      console.log(`${BULK_PEERS} peers applied in ${applyMs} ms, all handshakes seen after ${Date.now() - from} ms`);
      await uapiDevice("wg-t").apply(changes.map(({ publicKey }) => ({ kind: "remove", publicKey })));
      assert.equal((await uapiDevice("wg-t").state()).peers.length, 1);
    } finally {
      sink.kill("SIGKILL");
    }
  });

  test("no key is in any command line, and a frozen interface is NOT_READY until it is stopped and started again", async () => {
    for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
      const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      assert.ok(!commandLine.includes(swarmKey), `the key is in the arguments of process ${pid}`);
    }
    const { pid } = JSON.parse(await readFile(join(stateDir, "wireguard.json"), "utf8")) as { pid: number };
    process.kill(pid, "SIGSTOP");
    await assert.rejects(findInterface("wg-t"), (error: ForeshiftError) => error.code === "NOT_READY");
    await stopInterface({ device: "wg-t", stateDir });
    assert.equal(await findInterface("wg-t"), undefined);
    await stopInterface({ device: "wg-t", stateDir });
    const { device, adopted } = await startInterface(options());
    assert.equal(adopted, false);
    await device.apply(adoptChanges());
    await eventually("the handshake after the restart", async () => (await handshakeOf(device)) > 0, 3_000);
    await stopInterface({ device: "wg-t", stateDir });
  });
}

/** Listens on `count` ports from `first` and says `all` once each has received a handshake initiation (type 1, 148 bytes). */
const SINK = `
const [first, count] = process.argv.slice(1).map(Number);
const seen = new Set(); let up = 0;
for (let n = 0; n < count; n += 1) {
  const socket = require("node:dgram").createSocket("udp4");
  socket.on("message", (message) => {
    if (message[0] === 1 && message.length === 148) seen.add(n);
    if (seen.size === count) console.log("all");
  });
  socket.bind(first + n, () => { up += 1; if (up === count) console.log("ready"); });
}`;
