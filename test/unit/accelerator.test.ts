// How it is tried whether KVM works: a program that says its first word in time, one that hangs, one that ends, one that there is not.
import assert from "node:assert/strict";
import { test } from "node:test";
import { saysInTime } from "../../drivers/qemu/accelerator.ts";

const WORD = "it begins";

test("who says the word in time works; who hangs, ends without it or is not there does not", async () => {
  assert.equal(await saysInTime(["sh", "-c", `echo 'firmware'; echo '${WORD}'; exec sleep 600`], WORD, 20_000), true);
  assert.equal(await saysInTime(["sh", "-c", "echo firmware"], WORD, 20_000), false);
  assert.equal(await saysInTime(["/nonexistent/qemu"], WORD, 20_000), false);
  const beganAtMs = performance.now();
  assert.equal(await saysInTime(["sh", "-c", "echo firmware; exec sleep 600"], WORD, 300), false);
  assert.ok(performance.now() - beganAtMs < 10_000, "a device that hangs is not waited for");
});
