// The lab's journal over two processes: what the first did to machines that are still there, the second does not do again.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Journal } from "../../lab/journal.ts";

test("what was done to a machine that is there is answered from the file; what was begun, or done to one that has gone, is not", async () => {
  const folder = mkdtempSync(join(tmpdir(), "foreshift-journal-"));
  try {
    const before = new Journal(join(folder, "journal.ndjson"));
    const launch = (operation: string, machine: string) =>
      before.once({ operation, action: "launch", machine: () => machine }, async () => undefined);
    await launch("a", "ep-1");
    await launch("b", "ep-2");
    await before.once({ operation: "sleep", action: "suspend", machine: () => "ep-1" }, async () => undefined);
    const cutOff = before.once({ operation: "c", action: "launch", machine: () => "ep-3" }, () => new Promise(() => undefined));
    cutOff.catch(() => undefined);
    before.close();

    const after = new Journal(join(folder, "journal.ndjson"));
    // The launch of ep-3 had come to its end, and only its line was missing.
    after.restore(
      new Map([
        ["ep-1", "a"],
        ["ep-3", "c"],
      ]),
    );
    const done: string[] = [];
    const again = (operation: string, action: "launch" | "suspend") =>
      after.once({ operation, action, machine: () => `ep-${after.nextNumber()}` }, async (machine) => void done.push(machine));
    assert.equal(await again("a", "launch"), "ep-1");
    assert.equal(await again("c", "launch"), "ep-3");
    assert.equal(await again("sleep", "suspend"), "ep-1");
    assert.deepEqual(done, []);
    assert.equal(await again("b", "launch"), "ep-4");
    assert.deepEqual(done, ["ep-4"]);
    after.close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
