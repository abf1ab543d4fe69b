// Sockets over a guest's serial line: the two ends joined by a pair of streams, as QEMU joins them.
import assert from "node:assert/strict";
import { type Duplex, duplexPair } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { test } from "node:test";
import fc from "fast-check";
import { SerialStreams } from "../../drivers/qemu/serial-streams.ts";

/** A host, a guest, and what the guest's service `echo` answers by. */
function pair(serve: (socket: Duplex) => void) {
  const [hostLine, guestLine] = duplexPair();
  const accept = (name: string) => {
    if (name !== "echo") return undefined;
    const [ours, theirs] = duplexPair();
    serve(theirs);
    return ours;
  };
  const host = new SerialStreams({ line: hostLine, side: "host", accept: () => undefined });
  const guest = () => new SerialStreams({ line: guestLine, side: "guest", accept });
  return { host, guest, hostLine, guestLine };
}

const echo = (socket: Duplex) => void socket.pipe(socket);

test("streams side by side carry their own bytes, whole and in order, and end on their own", async () => {
  const payloads = fc.array(fc.uint8Array({ maxLength: 60_000 }), { minLength: 1, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(payloads, async (contents) => {
      const { host, guest } = pair(echo);
      await guest().begun;
      const echoed = contents.map(async (content) => {
        const [ours, theirs] = duplexPair();
        host.connect("echo", theirs);
        ours.end(content);
        assert.deepEqual(await buffer(ours), Buffer.from(content));
      });
      await Promise.all(echoed);
    }),
    { numRuns: 20 },
  );
});

test("a service that there is not closes the stream", async () => {
  const { host, guest } = pair(echo);
  await guest().begun;
  const [ours, theirs] = duplexPair();
  host.connect("nobody", theirs);
  theirs.resume();
  await new Promise((resolve) => theirs.once("close", resolve));
  ours.destroy();
});

test("a guest's program that begins anew is in step, whatever the one before it had half read", async () => {
  const { host, guest, hostLine } = pair(echo);
  hostLine.write(Buffer.from([7, 0, 0, 0, 1, 255, 255]));
  await guest().begun;
  const [ours, theirs] = duplexPair();
  host.connect("echo", theirs);
  ours.end("in step");
  assert.equal(await text(ours), "in step");
});

test("a host that comes anew is in step, whatever either end of the one before it had half said", async () => {
  const halves = fc.record({ toGuest: fc.uint8Array({ maxLength: 40 }), toHost: fc.uint8Array({ maxLength: 40 }) });
  await fc.assert(
    fc.asyncProperty(halves, async ({ toGuest, toHost }) => {
      const { guest, hostLine, guestLine } = pair(echo);
      await guest().begun;
      hostLine.removeAllListeners("data");
      // A frame that promises more than ever comes, or none at all.
      hostLine.write(Buffer.from([1, 0, 0, 0, 1, 44, 1, 0, 0, ...toGuest]));
      guestLine.write(Buffer.from(toHost));
      const host = new SerialStreams({ line: hostLine, side: "host", accept: () => undefined, rejoins: true });
      await host.begun;
      const [ours, theirs] = duplexPair();
      host.connect("echo", theirs);
      ours.end("in step");
      assert.equal(await text(ours), "in step");
    }),
    { numRuns: 6 },
  );
});
