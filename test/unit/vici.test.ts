// strongSwan's control protocol: messages as they went in, cut and changed; and a client against a server that says what charon says.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { ViciClient } from "../../drivers/tunnel/vici.ts";
import { decodeVici, encodeVici, type ViciSection, type ViciValue } from "../../drivers/tunnel/vici-message.ts";
import { ForeshiftError } from "../../models/errors.ts";
import { holds } from "../support/property.ts";

const name = fc.string({ maxLength: 60, unit: "grapheme-ascii" });
const { section } = fc.letrec<{ section: ViciSection; value: ViciValue }>((tie) => ({
  value: fc.oneof({ maxDepth: 3 }, fc.string({ maxLength: 300 }), fc.array(fc.string(), { maxLength: 5 }), tie("section")),
  section: fc.array(fc.tuple(name, tie("value")), { maxLength: 6 }).map((entries) => new Map(entries)),
}));

test("messages come out as they went in", (context) => {
  holds(
    context,
    fc.property(section, (message) => assert.deepEqual(decodeVici(encodeVici(message)), message)),
    500,
  );
});

test("a message that was cut or changed gives another message or an error that says so", (context) => {
  const property = fc.property(section, fc.nat(), fc.nat(), (message, cut, flip) => {
    const bytes = encodeVici(message);
    if (bytes.length === 0) return;
    const changed = Buffer.from(bytes);
    const at = flip % (bytes.length * 8);
    changed[at >> 3] = (changed[at >> 3] ?? 0) ^ (1 << (at & 7));
    for (const what of [bytes.subarray(0, cut % bytes.length), changed]) {
      try {
        decodeVici(what);
      } catch (thrown) {
        assert.ok(thrown instanceof ForeshiftError, String(thrown));
      }
    }
  });
  holds(context, property, 1_000);
  assert.throws(() => decodeVici(Buffer.concat(Array.from({ length: 40 }, () => Buffer.of(1, 1, 97)))), /nest too deeply/);
});

/** The first two of the five values that strongSwan 5.9.8 answers `version` with. */
const VERSION_ANSWER = "0306" + "6461656d6f6e" + "0006" + "636861726f6e" + "0307" + "76657273696f6e" + "0005" + "352e392e38";

test("an answer of strongSwan is understood", () => {
  const answer = decodeVici(Buffer.from(VERSION_ANSWER, "hex"));
  assert.deepEqual([answer.get("daemon"), answer.get("version")], ["charon", "5.9.8"]);
});

const folder = mkdtempSync(join(tmpdir(), "foreshift-vici-"));
const servers: Server[] = [];
after(() => {
  for (const server of servers) server.close();
  rmSync(folder, { recursive: true, force: true });
});

test("commands are answered, streams collected, refusals and ends told, whatever pieces the bytes come in", async () => {
  const path = await serve((socket, type, command) => {
    if (type === 3) answer(socket, Buffer.of(command === "list-sa" ? 5 : 6));
    else if (command === "version") answer(socket, Buffer.concat([Buffer.of(1), Buffer.from(VERSION_ANSWER, "hex")]));
    else if (command === "list-sas") {
      for (const which of ["one", "two"])
        answer(socket, Buffer.concat([Buffer.of(7, 7), Buffer.from("list-sa"), encodeVici(new Map([[which, new Map()]]))]));
      answer(socket, Buffer.of(1));
    } else if (command === "terminate") {
      answer(
        socket,
        Buffer.concat([
          Buffer.of(1),
          encodeVici(
            new Map([
              ["success", "no"],
              ["errmsg", "no matching SAs"],
            ]),
          ),
        ]),
      );
    } else if (command === "end") socket.destroy();
    else answer(socket, Buffer.of(2));
  });
  const vici = await ViciClient.open(path);
  assert.equal((await vici.command("version")).get("version"), "5.9.8");
  const events = await vici.stream("list-sas", "list-sa");
  assert.deepEqual(
    events.map((event) => [...event.keys()]),
    [["one"], ["two"]],
  );
  await assert.rejects(vici.stream("list-sas", "no-event"), /no event is named no-event/);
  await assert.rejects(vici.command("terminate"), /no matching SAs/);
  await assert.rejects(vici.command("whatever"), /no such command/);
  await assert.rejects(vici.command("end"), /does not answer: it closed the connection/);
  vici.close();
  await assert.rejects(ViciClient.open(join(folder, "nobody")), /does not answer/);
});

test("a packet that is too long ends the connection", async () => {
  const path = await serve((socket) => socket.write(Buffer.from("7fffffff01", "hex")));
  const vici = await ViciClient.open(path);
  await assert.rejects(vici.command("version"), /a packet of 2147483647 bytes/);
  vici.close();
});

/** One packet, byte by byte as far as the network lets it. */
function answer(socket: Socket, packet: Buffer): void {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(packet.length);
  for (const byte of Buffer.concat([length, packet])) socket.write(Buffer.of(byte));
}

/** Says what charon would, for each packet with a name. */
function serve(heard: (socket: Socket, type: number, command: string) => void): Promise<string> {
  const path = join(folder, `vici-${servers.length}`);
  const server = createServer((socket) => {
    let rest = Buffer.alloc(0);
    socket.on("error", () => undefined);
    socket.on("data", (bytes: Buffer) => {
      rest = Buffer.concat([rest, bytes]);
      while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE()) {
        const packet = rest.subarray(4, 4 + rest.readUInt32BE());
        rest = rest.subarray(4 + packet.length);
        heard(socket, packet[0] ?? -1, packet.subarray(2, 2 + (packet[1] ?? 0)).toString());
      }
    });
  });
  servers.push(server);
  return new Promise((resolve) => server.listen(path, () => resolve(path)));
}
