// A machine without QEMU skips the tests of virtual machines, and says why.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { whyNoImage, whyNoMachines } from "../support/machines.ts";

const TESTS = join(import.meta.dirname, "..", "activities", "hypervisor-qemu.test.ts");
const NOWHERE = { name: "qemu", purpose: "runs virtual machines", source: "missing", where: "not on PATH" } as const;

const noImage = await whyNoImage();

test("without QEMU there is a reason that names the package", { skip: noImage }, async () => {
  const findNothing = async () => ({ ...NOWHERE, debianPackage: "qemu-system-x86" });
  assert.equal(await whyNoMachines({}, findNothing), "QEMU is not here: install qemu-system-x86");
  const find = async () => ({ ...NOWHERE, source: "PATH" as const, where: "/usr/bin/qemu-system-x86_64" });
  assert.equal(await whyNoMachines({}, find), false);
});

test("the reason for which they are skipped is printed, and nothing is started", () => {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--test-reporter", "tap", TESTS], {
    env: { ...env, FORESHIFT_TEST_VMS: "0" },
    encoding: "utf8",
    timeout: 60_000,
  });
  assert.equal(status, 0, stderr);
  const reason = noImage === false ? "FORESHIFT_TEST_VMS=0 leaves virtual machines out" : noImage;
  assert.ok(stdout.includes(`# SKIP ${reason}`), stdout);
});
