// A command that a shell runs again and again: its output each time, its failures as they are told elsewhere, and no shell left behind.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { RepeatedCommand } from "../../drivers/repeated-command.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import { eventually } from "../support/eventually.ts";

const folder = mkdtempSync(join(tmpdir(), "foreshift-command-"));
const file = join(folder, "said");
after(() => rmSync(folder, { recursive: true, force: true }));

const TIMEOUT_MS = 20_000;
const codeIs = (code: string, word: RegExp) => (error: ForeshiftError) => error.code === code && word.test(error.message);

test("its output comes anew each time, whole, however it ends and whoever asks at the same time", async () => {
  const command = new RepeatedCommand("cat", [file]);
  for (const text of ["", "no line", "one\n", "0\n\n", "wide \u00e9\n".repeat(50_000)]) {
    writeFileSync(file, text);
    assert.deepEqual(await Promise.all([command.run(TIMEOUT_MS), command.run(TIMEOUT_MS)]), [text, text]);
  }
});

test("a command that fails says why, and may succeed the next time", async () => {
  const command = new RepeatedCommand("cat", [join(folder, "later")]);
  await assert.rejects(command.run(TIMEOUT_MS), codeIs("COMMAND_FAILED", /exit status 1: cat:.*later/));
  writeFileSync(join(folder, "later"), "here");
  assert.equal(await command.run(TIMEOUT_MS), "here");
});

test("a late command is given up; the one after it has a shell of its own", async () => {
  writeFileSync(file, "60");
  const command = new RepeatedCommand("sh", ["-c", `exec sleep "$(cat ${file})"`]);
  await assert.rejects(command.run(200), codeIs("COMMAND_FAILED", /not done within 200 ms/));
  writeFileSync(file, "0");
  assert.equal(await command.run(TIMEOUT_MS), "");
});

test("its shell keeps no process from ending, and ends with it", async () => {
  const program = `
    const { RepeatedCommand } = await import(${JSON.stringify(join(import.meta.dirname, "../../drivers/repeated-command.ts"))});
    process.stdout.write(await new RepeatedCommand("sh", ["-c", "echo $PPID"]).run(${TIMEOUT_MS}));`;
  const { status, stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
    encoding: "utf8",
    timeout: TIMEOUT_MS,
  });
  assert.equal(status, 0);
  const shell = Number(stdout);
  assert.ok(shell > 1);
  await eventually("its end", () => !existsSync(`/proc/${shell}`), TIMEOUT_MS);
});
