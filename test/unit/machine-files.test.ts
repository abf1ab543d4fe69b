// What machines boot from, as bytes.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { cpio, FILE_MODE } from "../../setup/image/cpio.ts";

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
