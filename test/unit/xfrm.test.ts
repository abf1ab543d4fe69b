// What the kernel says of SAs: as `ip` prints it and as netlink events; whole, cut, and changed bit by bit.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type XfrmEvent, XfrmEventReader } from "../../drivers/tunnel/xfrm-events.ts";
import { addStateLine, deleteStateLine, parseXfrmStates } from "../../drivers/tunnel/xfrm-state.ts";
import { ForeshiftError } from "../../models/errors.ts";
import { holds } from "../support/property.ts";

/** Printed by iproute2 6.1.0 on Linux 6.1. */
const PRINTED = `src 198.18.0.2 dst 198.18.0.1
	proto esp spi 0x00001001(4097) reqid 1(0x00000001) mode tunnel
	replay-window 32 seq 0x00000000 flag af-unspec (0x00100000)
	aead rfc4106(gcm(aes)) 0x0102030405060708090a0b0c0d0e0f1011121314 (160 bits) 128
	encap type espinudp sport 4500 dport 4501 addr 0.0.0.0
	anti-replay context: seq 0x100, oseq 0x0, bitmap 0x00000007
	sel src 0.0.0.0/0 dst 0.0.0.0/0 uid 0
	lifetime config:
	  limit: soft (INF)(bytes), hard (INF)(bytes)
	  limit: soft (INF)(packets), hard (INF)(packets)
	  expire add: soft 3289(sec), hard 3960(sec)
	  expire use: soft 0(sec), hard 0(sec)
	lifetime current:
	  840(bytes), 10(packets)
	  add 2026-11-21 13:43:52 use 2026-11-21 13:43:53
	stats:
	  replay-window 0 replay 0 failed 0
src 198.18.0.1 dst 198.18.0.2
	proto esp spi 0x00001000(4096) reqid 1(0x00000001) mode tunnel
	replay-window 0 seq 0x00000000 flag esn (0x10000000)
	aead rfc4106(gcm(aes)) 0x0102030405060708090a0b0c0d0e0f1011121314 (160 bits) 128
	anti-replay esn context:
	 seq-hi 0x0, seq 0x10, oseq-hi 0x1, oseq 0x10000
	 replay_window 64, bitmap-length 2
	 80000001 00000002 
	sel src 0.0.0.0/0 dst 0.0.0.0/0 uid 0
	lifetime config:
	  limit: soft (INF)(bytes), hard 1000(bytes)
	  limit: soft (INF)(packets), hard (INF)(packets)
	  expire add: soft 0(sec), hard 0(sec)
	  expire use: soft 0(sec), hard 0(sec)
	lifetime current:
	  0(bytes), 0(packets)
	  add 2026-11-21 13:43:45 use -
	stats:
	  replay-window 0 replay 0 failed 0
`;

test("SAs are read as iproute2 prints them, and written as it takes them", () => {
  const [inbound, outbound] = parseXfrmStates(PRINTED);
  assert.ok(inbound && outbound);
  assert.equal(inbound.seen, "7");
  assert.deepEqual([inbound.bytes, inbound.packets, inbound.secondsMax], [840, 10, 3960]);
  assert.equal(
    addStateLine(inbound),
    "xfrm state add src 198.18.0.2 dst 198.18.0.1 proto esp spi 0x00001001 reqid 1 mode tunnel replay-window 32 replay-seq 0x100 replay-oseq 0x0 aead rfc4106(gcm(aes)) 0x0102030405060708090a0b0c0d0e0f1011121314 128 flag af-unspec encap espinudp 4500 4501 0.0.0.0 limit time-hard 3960",
  );
  assert.deepEqual([outbound.seen, outbound.replayWindow, outbound.outboundSequence], ["280000001", 64, 2 ** 32 + 0x10000]);
  assert.match(addStateLine(outbound), /replay-oseq 0x10000 replay-oseq-hi 0x1 .* flag esn limit byte-hard 1000$/);
  assert.equal(deleteStateLine(outbound), "xfrm state delete src 198.18.0.1 dst 198.18.0.2 proto esp spi 0x00001000");
});

test("SAs in the making and other protocols are left out, and a line that is not known is refused without its key", () => {
  const larval = "src 198.18.0.1 dst 198.18.0.2\n\tproto esp spi 0x00000000(0) reqid 1(0x00000001) mode tunnel\n";
  assert.deepEqual(parseXfrmStates(`${larval}\treplay-window 0 seq 0x00000003 flag  (0x00000000)\n`), []);
  const asked = "\tsel src 10.99.0.1/32 dst 10.9.0.1/32 proto 1 type 8 code 0 dev out0 uid 0\n";
  assert.deepEqual(parseXfrmStates(`${larval}\treplay-window 0 seq 0x0 flag (0x0)\n${asked}`), []);
  assert.deepEqual(parseXfrmStates("src ::1 dst ::2\n\tproto comp spi 0x00000001(1) reqid 1 mode tunnel\n\twhatever\n"), []);
  const odd = PRINTED.replace("aead rfc", "odd rfc");
  assert.throws(
    () => parseXfrmStates(odd),
    (thrown) => thrown instanceof ForeshiftError && !thrown.message.includes("0102030405") && /iproute2/.test(thrown.message),
  );
});

test("a text that was cut, or a line of it lost, gives no SA with something missing", (context) => {
  const lines = PRINTED.split("\n");
  const full = parseXfrmStates(PRINTED);
  const property = fc.property(fc.nat(PRINTED.length), fc.nat(lines.length), (length, without) => {
    for (const text of [PRINTED.slice(0, length), lines.filter((_, at) => at !== without).join("\n")]) {
      const states = attempt(() => parseXfrmStates(text));
      for (const state of states ?? []) {
        const known = full.find(({ spi }) => spi === state.spi);
        assert.deepEqual(state.algorithms, known?.algorithms);
        assert.deepEqual([state.inboundSequence, state.outboundSequence], [known?.inboundSequence, known?.outboundSequence]);
      }
    }
  });
  holds(context, property, 500);
});

const word = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const events = fc.array(
  fc.record({ spi: word, reqid: word, seq: word, oseq: word, high: fc.nat(2 ** 20), esn: fc.boolean(), bytes: fc.nat() }),
  { minLength: 1, maxLength: 8 },
);

test("events come out as they went in, however the stream is cut", (context) => {
  const property = fc.property(events, fc.array(fc.nat(1_000)), (list, cuts) => {
    const bytes = Buffer.concat(list.map(message));
    const reader = new XfrmEventReader();
    const read: XfrmEvent[] = [];
    let at = 0;
    for (const cut of [...cuts, bytes.length]) {
      read.push(...reader.read(bytes.subarray(at, at + cut)));
      at = Math.min(bytes.length, at + cut);
    }
    assert.deepEqual(
      read.map((event) =>
        event.kind === "counters" ? [event.spi, event.outboundSequence, event.inboundSequence, event.bytes] : [],
      ),
      list.map(({ spi, seq, oseq, high, esn, bytes: count }) =>
        esn ? [spi, high * 2 ** 32 + oseq, high * 2 ** 32 + seq, count] : [spi, oseq, seq, count],
      ),
    );
  });
  holds(context, property, 500);
});

test("a bit that flips in an event gives another event or an error that says so, never anything else", (context) => {
  const property = fc.property(events, fc.nat(), (list, flip) => {
    const bytes = Buffer.concat(list.map(message));
    const at = flip % (bytes.length * 8);
    bytes[at >> 3] = (bytes[at >> 3] ?? 0) ^ (1 << (at & 7));
    attempt(() => new XfrmEventReader().read(bytes));
  });
  holds(context, property, 1_000);
  assert.deepEqual(new XfrmEventReader().read(header(0x10, Buffer.alloc(8))), [{ kind: "changed" }]);
  assert.deepEqual(new XfrmEventReader().read(header(0x18, Buffer.alloc(8))), [{ kind: "expired" }]);
});

/** Undefined when it was refused; anything but a ForeshiftError is a fault. */
function attempt<T>(what: () => T): T | undefined {
  try {
    return what();
  } catch (thrown) {
    assert.ok(thrown instanceof ForeshiftError, String(thrown));
    return undefined;
  }
}

function message(event: {
  spi: number;
  reqid: number;
  seq: number;
  oseq: number;
  high: number;
  esn: boolean;
  bytes: number;
}): Buffer {
  const id = Buffer.alloc(48);
  id.writeUInt32BE(event.spi, 16);
  id.writeUInt16LE(2, 20);
  id.writeUInt32LE(event.reqid, 44);
  const words = event.esn ? [2, event.oseq, event.seq, event.high, event.high, 64, 1, 0] : [event.oseq, event.seq, 1];
  const replay = Buffer.alloc(words.length * 4);
  words.forEach((value, at) => replay.writeUInt32LE(value, at * 4));
  const lifetime = Buffer.alloc(32);
  lifetime.writeBigUInt64LE(BigInt(event.bytes), 0);
  return header(0x1e, Buffer.concat([id, attribute(event.esn ? 23 : 10, replay), attribute(9, lifetime)]));
}

function attribute(type: number, value: Buffer): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt16LE(value.length + 4, 0);
  head.writeUInt16LE(type, 2);
  return Buffer.concat([head, value]);
}

function header(type: number, body: Buffer): Buffer {
  const head = Buffer.alloc(16);
  head.writeUInt32LE(body.length + 16, 0);
  head.writeUInt16LE(type, 4);
  return Buffer.concat([head, body]);
}
