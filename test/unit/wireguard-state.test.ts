// Reading what WireGuard says of itself, by both ways of asking; the private key among it must not come through.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseDump } from "../../drivers/tunnel/wireguard-tool.ts";
import { parseState } from "../../drivers/tunnel/wireguard-uapi.ts";
import { keyOf } from "../support/sessions.ts";

const PRIVATE = Buffer.alloc(32, 0x5a);
const hex = (key: string) => Buffer.from(key, "base64").toString("hex");

test("the control socket's text", () => {
  const text = [
    `private_key=${PRIVATE.toString("hex")}`,
    "listen_port=51820",
    `public_key=${hex(keyOf(1))}`,
    "preshared_key=0000000000000000000000000000000000000000000000000000000000000000",
    "protocol_version=1",
    "endpoint=[fd00:18:101::2]:4000",
    "last_handshake_time_sec=1700000000",
    "last_handshake_time_nsec=123456789",
    "tx_bytes=5",
    "rx_bytes=7",
    "persistent_keepalive_interval=25",
    "allowed_ip=10.66.1.1/32",
    "allowed_ip=fd00:66::1/128",
    `public_key=${hex(keyOf(2))}`,
    "last_handshake_time_sec=0",
    "last_handshake_time_nsec=0",
    "errno=0",
    "",
    "",
  ].join("\n");
  const state = parseState(text);
  assert.equal(state.listenPort, 51_820);
  assert.deepEqual(state.peers[0], {
    publicKey: keyOf(1),
    endpoint: "[fd00:18:101::2]:4000",
    allowedIps: ["10.66.1.1/32", "fd00:66::1/128"],
    lastHandshakeMs: 1_700_000_000_123,
    rxBytes: 7,
    txBytes: 5,
    keepaliveS: 25,
  });
  assert.deepEqual([state.peers[1]?.endpoint, state.peers[1]?.lastHandshakeMs, state.peers.length], [undefined, 0, 2]);
  assert.ok(!JSON.stringify(state).includes("5a5a5a5a"));
});

test("the dump of wg", () => {
  const rows = [
    [PRIVATE.toString("base64"), keyOf(9), "51820", "off"],
    [keyOf(1), "(none)", "198.18.101.2:4000", "10.66.1.1/32,fd00:66::1/128", "1700000000", "7", "5", "25"],
    [keyOf(2), "(none)", "(none)", "(none)", "0", "0", "0", "off"],
  ];
  const state = parseDump(`${rows.map((row) => row.join("\t")).join("\n")}\n`);
  assert.equal(state.listenPort, 51_820);
  assert.deepEqual(state.peers[1], {
    publicKey: keyOf(2),
    endpoint: undefined,
    allowedIps: [],
    lastHandshakeMs: 0,
    rxBytes: 0,
    txBytes: 0,
    keepaliveS: 0,
  });
  assert.deepEqual(state.peers[0]?.allowedIps, ["10.66.1.1/32", "fd00:66::1/128"]);
  assert.ok(!JSON.stringify(state).includes(PRIVATE.toString("base64")));
});
