/**
 * The disk that a machine gets its configuration and identity from: a tar archive (POSIX ustar), read once when it boots.
 */
import { ForeshiftError } from "../../models/errors.ts";
import { MACHINE_LIMITS } from "../../models/limits-machines.ts";

export interface DriveFile {
  /** Below the guest's /run/config. */
  readonly path: string;
  readonly content: string | Uint8Array;
  readonly executable?: boolean;
}

const BLOCK = 512;
const PATH_BYTES_MAX = 100;
/** QEMU rounds a disk down to whole sectors; a page is a whole number of any. */
const DRIVE_ALIGNMENT = 4_096;
const CHECKSUM = { at: 148, length: 8 } as const;

/** The drive's bytes; only the owner may read its files. */
export function configDrive(files: readonly DriveFile[]): Buffer {
  const archive = Buffer.concat([...files.flatMap(member), Buffer.alloc(2 * BLOCK)]);
  if (archive.length > MACHINE_LIMITS.driveBytesMax) {
    const detail = `expected at most ${MACHINE_LIMITS.driveBytesMax} bytes`;
    throw new ForeshiftError("INVALID_FIELD", { field: "the machine's configuration", value: archive.length, detail });
  }
  return padded(archive, DRIVE_ALIGNMENT);
}

function member({ path, content, executable }: DriveFile): Buffer[] {
  const bytes = Buffer.from(content);
  if (Buffer.byteLength(path) > PATH_BYTES_MAX || path.startsWith("/") || path.includes("..")) {
    const detail = `expected a relative path of at most ${PATH_BYTES_MAX} bytes`;
    throw new ForeshiftError("INVALID_FIELD", { field: "a file of the machine's configuration", value: path, detail });
  }
  const header = Buffer.alloc(BLOCK);
  header.write(path, 0);
  header.write(`${octal(executable === true ? 0o700 : 0o600, 7)}\0${octal(0, 7)}\0${octal(0, 7)}\0`, 100);
  header.write(`${octal(bytes.length, 11)}\0${octal(0, 11)}\0`, 124);
  header.write(" ".repeat(CHECKSUM.length), CHECKSUM.at);
  header.write("0", 156);
  header.write("ustar\u000000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${octal(sum, 6)}\0 `, CHECKSUM.at);
  return [header, padded(bytes, BLOCK)];
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, "0");
}

function padded(bytes: Buffer, alignment: number): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((alignment - (bytes.length % alignment)) % alignment)]);
}
