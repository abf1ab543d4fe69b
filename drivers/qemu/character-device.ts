/**
 * A character device as a stream. Node's sockets do not take one, and its file streams read as far as they can: this reads what is
 * there, and waits where the other end is not.
 */
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { MACHINE_LIMITS } from "../../models/limits-machines.ts";

const READ_BYTES = 64 * 1024;

export async function openCharacterDevice(path: string): Promise<Duplex> {
  const file = await open(path, constants.O_RDWR);
  const stream = new Duplex({
    read: () => undefined,
    write: (bytes: Uint8Array, _encoding, done) => {
      file.write(bytes).then(() => done(), done);
    },
  });
  const pump = async () => {
    const buffer = Buffer.alloc(READ_BYTES);
    while (!stream.destroyed) {
      const { bytesRead } = await file.read(buffer, 0, READ_BYTES, null);
      if (bytesRead === 0) await delay(MACHINE_LIMITS.pollMs);
      else stream.push(Buffer.from(buffer.subarray(0, bytesRead)));
    }
  };
  pump().catch((thrown: Error) => stream.destroy(thrown));
  return stream;
}
