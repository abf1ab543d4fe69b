/**
 * The initial RAM file system as bytes: a cpio archive in the "newc" layout that the kernel unpacks (its documentation,
 * driver-api/early-userspace/buffer-format). Same entries, same bytes.
 */
export interface CpioEntry {
  readonly path: string;
  /** Type and permissions as in stat(2), e.g. 0o100755. */
  readonly mode: number;
  readonly content?: Uint8Array;
  /** Major and minor number of a device. */
  readonly device?: readonly [number, number];
}

export const FOLDER_MODE = 0o040755;
export const PROGRAM_MODE = 0o100755;
export const FILE_MODE = 0o100644;
export const CHARACTER_DEVICE_MODE = 0o020600;

const ALIGNMENT = 4;
const END = "TRAILER!!!";

export function cpio(entries: readonly CpioEntry[]): Buffer {
  const parts = [...entries, { path: END, mode: 0 }].flatMap((entry, index) => record(entry, index + 1));
  return Buffer.concat(parts);
}

function record(entry: CpioEntry, inode: number): Buffer[] {
  const name = Buffer.from(`${entry.path}\0`);
  const content = Buffer.from(entry.content ?? []);
  const [major, minor] = entry.device ?? [0, 0];
  const isEnd = entry.path === END;
  // Inode, mode, owner, group, links, time, size, device of the file system (2), device itself (2), length of the name, checksum.
  const numbers = [isEnd ? 0 : inode, entry.mode, 0, 0, 1, 0, content.length, 0, 0, major, minor, name.length, 0];
  const header = `070701${numbers.map((value) => value.toString(16).padStart(8, "0")).join("")}`;
  return [padded(Buffer.concat([Buffer.from(header), name])), padded(content)];
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((ALIGNMENT - (bytes.length % ALIGNMENT)) % ALIGNMENT)]);
}
