/**
 * The content of the lab's download: a function of the offset, so that the receiver can check every byte of an endless stream.
 */

/** Prime, so that a shifted stream never looks right by chance of block sizes. */
const PERIOD = 65_521;
const CHUNK_BYTES_MAX = 65_536;

const block = Buffer.alloc(PERIOD + CHUNK_BYTES_MAX);
for (let at = 0; at < block.length; at += 1) {
  const place = at % PERIOD;
  block[at] = (place * 31 + (place >> 8) * 17) & 255;
}

/** At most 64 KiB of the stream, from `offset` on. */
export function patternAt(offset: number, bytes: number): Buffer {
  const from = offset % PERIOD;
  return block.subarray(from, from + Math.min(bytes, CHUNK_BYTES_MAX));
}

/** Whether these bytes are what the stream holds at `offset`. */
export function matchesPattern(offset: number, bytes: Buffer): boolean {
  for (let done = 0; done < bytes.length; ) {
    const expected = patternAt(offset + done, bytes.length - done);
    if (!expected.equals(bytes.subarray(done, done + expected.length))) return false;
    done += expected.length;
  }
  return true;
}
