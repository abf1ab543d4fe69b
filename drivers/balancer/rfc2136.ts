/**
 * A name at any DNS server that takes dynamic updates (BIND, Knot, PowerDNS) as a front door of several swarms: each adds its address while it
 * takes anybody, and removes it when it does not. DNS of this kind knows no weights. Updates are signed, and so must be their answers.
 */
import { createHmac, randomInt, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import {
  type AddressRecord,
  type NameUpdate,
  readSigned,
  refusalIn,
  type Signature,
  signedBytes,
  updateMessage,
  withSignature,
} from "../../models/dns-update.ts";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { isOpen } from "../../models/front-door.ts";
import { CLOUD_LIMITS } from "../../models/limits-cloud.ts";
import type { SteeringState } from "../../models/steering.ts";
import type { FrontDoor } from "../ports.ts";
import type { Rfc2136Config } from "./front-door-config.ts";

const { requestTimeoutMs, dnsRepeatMs, dnsFudgeS } = CLOUD_LIMITS;

export function rfc2136FrontDoor(config: Rfc2136Config): FrontDoor & { close(): Promise<void> } {
  // What the server has confirmed, and when: a zone that was restored from a backup is told again after a while.
  let told: { readonly text: string; readonly atMs: number } | undefined;
  return {
    apply: async (state) => {
      if (state.swarm !== config.swarm) return;
      const update = updateOf(config, state);
      const text = JSON.stringify(update);
      if (told?.text === text && performance.now() - told.atMs < dnsRepeatMs) return;
      await send(config, { ...update, id: randomInt(2 ** 16) });
      told = { text, atMs: performance.now() };
    },
    close: async () => undefined,
  };
}

function updateOf({ zone, name, ttlS, addresses }: Rfc2136Config, { members, vip }: SteeringState): Omit<NameUpdate, "id"> {
  const [v4, v6] = [addresses.v4 ?? vip.v4, addresses.v6 ?? vip.v6];
  const records: AddressRecord[] = [
    { type: "A", address: v4 },
    ...(v6 === undefined ? [] : [{ type: "AAAA" as const, address: v6 }]),
  ];
  const isThere = members.some(isOpen);
  return { zone, name, ttlS, add: isThere ? records : [], remove: isThere ? [] : records };
}

/** CLOUD_REFUSED when the server says no, UNAUTHORISED when its answer is not signed by the key, UNREACHABLE when there is none. */
async function send(config: Rfc2136Config, update: NameUpdate): Promise<void> {
  const { key, name, server, port } = config;
  const secret = await secretOf(key.secretFile);
  const hmac = (bytes: Uint8Array) => createHmac(key.algorithm.replace("hmac-", ""), secret).update(bytes).digest();
  const signature: Signature = {
    keyName: key.name,
    algorithm: key.algorithm,
    signedAtS: Math.floor(Date.now() / 1_000),
    fudgeS: dnsFudgeS,
    error: 0,
  };
  const message = updateMessage(update);
  const mac = hmac(signedBytes(message, signature));
  const answer = await exchange(server, port, withSignature(message, signature, mac));
  const signed = readSigned(answer);
  const value = `${server}:${port}`;
  const refusal = refusalIn(answer);
  // An answer about a key that it does not know cannot be signed by it; as a refusal it is heard all the same.
  if (refusal !== undefined)
    throw new ForeshiftError("CLOUD_REFUSED", { value: `an update of ${name} at ${value}`, detail: refusal });
  if (signed === undefined || !isBy(signed.mac, hmac(signedBytes(signed.message, signed.signature, mac)))) {
    throw new ForeshiftError("UNAUTHORISED", { field: `DNS server ${value}`, detail: "its answer is not signed by the key" });
  }
}

function isBy(mac: Uint8Array, expected: Buffer): boolean {
  return mac.length === expected.length && timingSafeEqual(mac, expected);
}

async function secretOf(file: string): Promise<Buffer> {
  try {
    return Buffer.from((await readFile(file, "utf8")).trim(), "base64");
  } catch (thrown) {
    throw new ForeshiftError("INVALID_FIELD", { field: "key.secretFile", value: file, detail: messageOf(thrown) });
  }
}

/** Over TCP: each message after its length. */
async function exchange(host: string, port: number, message: Uint8Array): Promise<Uint8Array> {
  const socket = connect({ host, port });
  socket.setTimeout(requestTimeoutMs, () => socket.destroy(new Error("no answer in time")));
  try {
    await once(socket, "connect");
    const length = Buffer.alloc(2);
    length.writeUInt16BE(message.length);
    socket.write(Buffer.concat([length, message]));
    let received = Buffer.alloc(0);
    for await (const chunk of socket) {
      received = Buffer.concat([received, chunk as Buffer]);
      const bytes = received.length < 2 ? Number.POSITIVE_INFINITY : received.readUInt16BE(0);
      if (received.length >= bytes + 2) return received.subarray(2, bytes + 2);
    }
    throw new Error("it hung up");
  } catch (thrown) {
    throw new ForeshiftError("UNREACHABLE", { field: "The DNS server", value: `${host}:${port}`, detail: messageOf(thrown) });
  } finally {
    socket.destroy();
  }
}
