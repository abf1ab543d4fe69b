// What machines boot from and are configured by, as bytes: read back by the tools that others read them with.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { configDrive } from "../../drivers/qemu/config-drive.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import { cpio, FILE_MODE } from "../../setup/image/cpio.ts";

test("tar reads a configuration drive back, and only the owner may read its files", () => {
  const folder = mkdtempSync(join(tmpdir(), "foreshift-drive-"));
  try {
    const name = fc.stringMatching(/^[a-z]{1,12}$/);
    const files = fc.uniqueArray(fc.tuple(name, fc.uint8Array({ maxLength: 1_500 })), {
      selector: ([path]) => path,
      minLength: 1,
      maxLength: 5,
    });
    fc.assert(
      fc.property(files, (content) => {
        const drive = configDrive(content.map(([path, bytes]) => ({ path, content: bytes })));
        assert.equal(drive.length % 4_096, 0);
        execFileSync("tar", ["-x", "-f", "-", "-C", folder, "--overwrite"], { input: drive });
        for (const [path, bytes] of content) {
          assert.deepEqual(new Uint8Array(readFileSync(join(folder, path))), new Uint8Array(bytes));
          assert.equal(statSync(join(folder, path)).mode & 0o777, 0o600);
        }
      }),
      { numRuns: 20 },
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a path that would leave the configuration's folder is refused by name", () => {
  const codeIs = (error: ForeshiftError) => error.code === "INVALID_FIELD" && error.message.includes("../etc/passwd");
  assert.throws(() => configDrive([{ path: "../etc/passwd", content: "x" }]), codeIs);
});

test("an archive for the kernel is whole words, ends with its trailer, and is the same each time", () => {
  const word = fc.uint8Array({ maxLength: 64 });
  fc.assert(
    fc.property(word, word, (one, two) => {
      const entries = [
        { path: "one", mode: FILE_MODE, content: one },
        { path: "folder/two", mode: FILE_MODE, content: two },
      ];
      const archive = cpio(entries);
      assert.deepEqual(archive, cpio(entries));
      assert.equal(archive.length % 4, 0);
      assert.deepEqual(readBack(archive), [
        ["one", Buffer.from(one)],
        ["folder/two", Buffer.from(two)],
      ]);
    }),
  );
});

/** By the documentation of the layout: 13 numbers of 8 hexadecimal digits after the magic, name and content padded to 4 bytes. */
function readBack(archive: Buffer): [string, Buffer][] {
  const found: [string, Buffer][] = [];
  for (let at = 0; ; ) {
    assert.equal(archive.toString("latin1", at, at + 6), "070701");
    const number = (index: number) => Number.parseInt(archive.toString("latin1", at + 6 + 8 * index, at + 14 + 8 * index), 16);
    const [size, nameSize] = [number(6), number(11)];
    const name = archive.toString("latin1", at + 110, at + 110 + nameSize - 1);
    if (name === "TRAILER!!!") return found;
    const from = (at + 110 + nameSize + 3) & ~3;
    found.push([name, archive.subarray(from, from + size)]);
    at = (from + size + 3) & ~3;
  }
}
