// Questions to the kernel by a process that may be missing, end, keep silent or answer nonsense; what answers here is a shell script in its place.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, beforeEach, test } from "node:test";
import { NetlinkLine } from "../../drivers/tunnel/netlink-line.ts";
import { familyQuestion } from "../../drivers/tunnel/wireguard-netlink.ts";

const folder = mkdtempSync(join(tmpdir(), "foreshift-netlink-"));
const path = process.env["PATH"] ?? "";
const LATE_MS = 30_000;

after(() => {
  process.env["PATH"] = path;
  rmSync(folder, { recursive: true, force: true });
});

beforeEach(() => {
  process.env["PATH"] = path;
});

/** Octal escapes of an acknowledgement of the question with this number. */
const acknowledged = (sequence: number) => {
  const bytes = Buffer.alloc(20);
  bytes.writeUInt32LE(20, 0);
  bytes.writeUInt16LE(2, 4);
  bytes.writeUInt32LE(sequence, 8);
  return [...bytes].map((byte) => `\\${byte.toString(8).padStart(3, "0")}`).join("");
};

function socat(script: string): void {
  writeFileSync(join(folder, "socat"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  process.env["PATH"] = `${folder}${delimiter}${path}`;
}

test("where socat is not installed there is no line", async () => {
  process.env["PATH"] = join(folder, "nothing");
  const line = new NetlinkLine();
  assert.equal(await line.ask(familyQuestion, LATE_MS), undefined);
  assert.equal(await line.ask(familyQuestion, LATE_MS), undefined);
});

test("one question after the other over one line", async () => {
  socat(
    `head -c 36 >/dev/null; printf '${acknowledged(1)}'; head -c 36 >/dev/null; printf '${acknowledged(2)}'; cat >/dev/null`,
  );
  const line = new NetlinkLine();
  assert.deepEqual(await Promise.all([1, 2].map(() => line.ask(familyQuestion, LATE_MS))), [[], []]);
});

test("a line that breaks, speaks nonsense or keeps silent is an error of its question, and the next one has a line of its own", async () => {
  const line = new NetlinkLine();
  for (const script of ["exit 1", "printf 'these are no messages of the kernel'; cat >/dev/null", "cat >/dev/null"]) {
    socat(script);
    await assert.rejects(line.ask(familyQuestion, script.startsWith("cat") ? 50 : LATE_MS), { code: "COMMAND_FAILED" });
  }
  socat(`head -c 36 >/dev/null; printf '${acknowledged(4)}'; cat >/dev/null`);
  assert.deepEqual(await line.ask(familyQuestion, LATE_MS), []);
});

test("a question that cannot be made asks nobody", async () => {
  const cannot = () => {
    throw new RangeError("no question");
  };
  await assert.rejects(new NetlinkLine().ask(cannot, 1), RangeError);
});
