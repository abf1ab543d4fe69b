// The kernel's own answers on WireGuard, as they came from one with three peers; its keys among them must not come through.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  answerReader,
  changeMessage,
  endOf,
  familyOf,
  familyQuestion,
  stateOf,
  stateQuestion,
} from "../../drivers/tunnel/wireguard-netlink.ts";
import { keyOf } from "../support/sessions.ts";

const FAMILY = [
  "700000001000000001000000c8000000010200000e00020077697265677561726400000006000100200000000800030001000000080004000000000008000500",
  "080000002c000600140001000800010000000000080002001c000000140002000800010001000000080002001a000000240000000200000101000000c8000000",
  "0000000024000000100005000100000000000000",
].join("");
const PRIVATE = "5a".repeat(32);
const STATE = [
  "2c0300002000020002000000ce00000000010000060006006cca00000800070000000000080001000200000008000200776730002400030",
  `0${PRIVATE}24000400ca52ed498e4b9334778fa112f47ebcc86fb1567857c1e27443007e2c9ce8f824b0020880`,
  "e4000080240001000a8c4e10cf52cbdcb6da2ebd77e67fbd6c4d0d74ee648fe133b2ad30489f7350240002000000000000000000000000000000000000000000000000000000000000000000",
  "140006000000000000000000000000000000000006000500190000000c00080000000000000000000c000700000000000000000008000a00010000001400040002000fa0c000020100000000",
  "00000000480009801c00008005000300200000000600010002000000080002000a420101280000800500030080000000060001000a00000014000200fd000066000000000000000000000001",
  "e4000080240001009fc873d27a3746f7f5e19c4e830b2ab45832e5d2e00460af2c15a5afc6bbb575240002000000000000000000000000000000000000000000000000000000000000000000",
  "140006000000000000000000000000000000000006000500190000000c00080000000000000000000c000700000000000000000008000a00010000001400040002000fa0c000020200000000",
  "00000000480009801c00008005000300200000000600010002000000080002000a420102280000800500030080000000060001000a00000014000200fd000066000000000000000000000002",
  "e400008024000100e67921cb04d0d012800dd6b459e170351cde535faeb7e8af92874e9bc454d252240002000000000000000000000000000000000000000000000000000000000000000000",
  "140006000000000000000000000000000000000006000500190000000c00080000000000000000000c000700000000000000000008000a00010000001400040002000fa0c000020300000000",
  "00000000480009801c00008005000300200000000600010002000000080002000a420103280000800500030080000000060001000a00000014000200fd000066000000000000000000000003",
  "140000000300020002000000ce00000000000000",
].join("");
const NO_SUCH_DEVICE = "300000000200000003000000d4000000edffffff1c000000200005030300000000000000000100000800020077673900";

const read = (hex: string) => answerReader().read(Buffer.from(hex, "hex"));
const state = () => stateOf(read(STATE).filter((message) => endOf(message) === undefined));

test("the number of WireGuard's family, and that nothing more comes", () => {
  const [answer, end] = read(FAMILY);
  assert.ok(answer !== undefined && end !== undefined);
  assert.equal(familyOf([answer]), 32);
  assert.equal(endOf(answer), undefined);
  assert.deepEqual(endOf(end), { failed: 0 });
  assert.equal(familyOf([]), undefined);
});

test("a device with its peers, and none of its keys", () => {
  const { listenPort, peers } = state();
  assert.equal(listenPort, 51_820);
  assert.deepEqual(
    peers.map(({ endpoint }) => endpoint),
    ["192.0.2.1:4000", "192.0.2.2:4000", "192.0.2.3:4000"],
  );
  assert.deepEqual(peers[0], {
    publicKey: "CoxOEM9Sy9y22i69d+Z/vWxNDXTuZI/hM7KtMEifc1A=",
    endpoint: "192.0.2.1:4000",
    allowedIps: ["10.66.1.1/32", "fd00:66::1/128"],
    lastHandshakeMs: 0,
    rxBytes: 0,
    txBytes: 0,
    keepaliveS: 25,
  });
  assert.ok(!JSON.stringify(state()).includes(Buffer.from(PRIVATE, "hex").toString("base64")));
});

test("bytes come in any pieces", () => {
  const bytes = Buffer.from(STATE, "hex");
  for (const piece of [1, 7, 100]) {
    const reader = answerReader();
    const messages = Array.from({ length: Math.ceil(bytes.length / piece) }, (_, at) =>
      reader.read(bytes.subarray(at * piece, (at + 1) * piece)),
    ).flat();
    assert.deepEqual(stateOf(messages.slice(0, -1)), state());
    assert.deepEqual(endOf(messages.at(-1) ?? assert.fail()), { failed: 0 });
  }
});

test("a peer that goes on in the next message is one peer", () => {
  const [message] = read(STATE);
  assert.ok(message !== undefined);
  const last = state().peers[2];
  const goesOn = Buffer.from(message.body);
  const body = Buffer.concat([goesOn.subarray(0, 4), peersOf(goesOn, 2)]);
  const { peers } = stateOf([message, { ...message, body }]);
  assert.equal(peers.length, 3);
  assert.deepEqual(peers[2]?.allowedIps, [...(last?.allowedIps ?? []), ...(last?.allowedIps ?? [])]);
});

test("a refusal says which, and bytes that are no messages are refused", () => {
  const [refusal] = read(NO_SUCH_DEVICE);
  assert.deepEqual(endOf(refusal ?? assert.fail()), { failed: 19 });
  assert.throws(() => read("ff".repeat(16)), { code: "INVALID_FIELD" });
});

test("questions are messages of their own length, with the name at their end", () => {
  assert.equal(familyQuestion(1).toString("hex"), "24000000100005000100000000000000030100000e000200776972656775617264000000");
  const question = stateQuestion(32, "wg0", 7);
  assert.equal(question.readUInt32LE(0), question.length);
  assert.equal(question.readUInt16LE(4), 32);
  assert.equal(question.readUInt32LE(8), 7);
  assert.equal(question.subarray(24, 28).toString(), "wg0\0");
});

test("changes are peers in their order, as the kernel reads them", () => {
  const bytes = changeMessage(
    32,
    "wg0",
    [
      { kind: "remove", publicKey: keyOf(1) },
      {
        kind: "configure",
        publicKey: keyOf(2),
        innerAddresses: ["10.66.1.1", "fd00:66::1"],
        presharedKey: keyOf(3),
        endpoint: "[fd00:18:101::2]:4000",
        keepaliveS: 1,
      },
      { kind: "keepalive", publicKey: keyOf(2), keepaliveS: 0 },
      { kind: "preshared", publicKey: keyOf(2), presharedKey: undefined },
    ],
    9,
  );
  const hex = (key: string) => Buffer.from(key, "base64").toString("hex");
  const peer = (length: string, key: string, flags: string) => `${length}00802400 0100${hex(key)}0800 0300${flags}000000`;
  assert.equal(bytes.readUInt32LE(0), bytes.length);
  assert.equal(bytes.readUInt16LE(6), 0x5);
  assert.equal(bytes.readUInt8(16), 1);
  const text = bytes.toString("hex");
  for (const part of [
    peer("3000", keyOf(1), "01"),
    peer("c400", keyOf(2), "02"),
    peer("3800", keyOf(2), "04"),
    `24000200${hex(keyOf(3))}`,
    "200004000a000fa000000000fd000018010100000000000000000002 00000000",
    "0600 0500 0100",
    "06000100020000000800 0200 0a420101 0500 0300 20",
    "060001000a00000014000200fd000066000000000000000000000001 0500 0300 80",
    `24000200${"00".repeat(32)}`,
  ])
    assert.ok(text.includes(part.replaceAll(" ", "")), part);
});

test("what was told to the kernel is read as it was told", () => {
  const address = fc.ipV6().filter((one) => !one.includes("."));
  fc.assert(
    fc.property(fc.array(address, { minLength: 1, maxLength: 4 }), fc.ipV4(), fc.nat(65_535), (inner, host, port) => {
      const endpoint = `${host}:${port}`;
      const change = { kind: "configure", publicKey: keyOf(1), innerAddresses: inner, endpoint, keepaliveS: 7 } as const;
      const [message] = answerReader().read(changeMessage(32, "wg0", [change], 1));
      const { peers } = stateOf([message ?? assert.fail()]);
      const canonical = (one: string) => new URL(`http://[${one}]`).hostname.slice(1, -1);
      assert.deepEqual(
        peers[0]?.allowedIps,
        inner.map((one) => `${canonical(one)}/128`),
      );
      assert.equal(peers[0]?.endpoint, endpoint);
      assert.equal(peers[0]?.keepaliveS, 7);
      assert.equal(peers[0]?.publicKey, keyOf(1));
    }),
  );
});

/** The attribute that holds a device's peers, with one of them alone. */
function peersOf(body: Buffer, at: number): Buffer {
  const peers = body.subarray(body.length - 3 * 0xe4);
  const one = peers.subarray(at * 0xe4, (at + 1) * 0xe4);
  const head = Buffer.alloc(4);
  head.writeUInt16LE(4 + one.length, 0);
  head.writeUInt16LE(0x8008, 2);
  return Buffer.concat([head, one]);
}
