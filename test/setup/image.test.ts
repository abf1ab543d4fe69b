// The image of virtual machines: built twice with the same digest, found again without building, and booted to test itself.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { before, test } from "node:test";
import { verifyImage } from "../../lab/verify-image.ts";
import { buildImage, type Image } from "../../setup/image/build.ts";
import { TESTED_MODULES } from "../../setup/image/recipe.ts";
import { whyNoImage, whyNoLongMachines } from "../support/machines.ts";

const skip = await whyNoImage();
let image: Image;

before(async () => {
  if (skip === false) ({ image } = await buildImage());
});

test("what is built anew of the same parts has the same digest, and what is built already is not built again", {
  skip,
}, async () => {
  const anew = await buildImage({ noCache: true });
  assert.equal(anew.cached, false);
  assert.equal(anew.image.digest, image.digest);
  const again = await buildImage();
  assert.equal(again.cached, true);
  assert.deepEqual(again.image, anew.image);
});

test("a bill of materials names each package with version and hash, and what an image is for is among them", {
  skip,
}, async () => {
  const bill: { digest: string; packages: { name: string; version: string; sha256: string }[] } = JSON.parse(
    await readFile(join(image.folder, "bill-of-materials.json"), "utf8"),
  );
  assert.equal(bill.digest, image.digest);
  for (const { name, version, sha256 } of bill.packages) assert.ok(version !== "" && /^[0-9a-f]{64}$/.test(sha256), name);
  const names = bill.packages.map(({ name }) => name);
  for (const wanted of ["wireguard-tools", "strongswan-swanctl", "nftables", "qemu-guest-agent"])
    assert.ok(names.includes(wanted));
});

test("the image boots and passes its own test: modules, programs, agent, read-only root, no secrets, serial line", {
  skip: await whyNoLongMachines(),
}, async () => {
  const { checks } = await verifyImage(image);
  const passed = checks.filter(({ ok }) => ok).map(({ what }) => what);
  for (const what of [
    ...TESTED_MODULES.map((name) => `module ${name}`),
    "program wg",
    "strongswan",
    "agent",
    "read-only root",
    "no secrets",
  ])
    assert.ok(passed.includes(what), `${what} is among ${passed.join(", ")}`);
  assert.ok(passed.includes("serial line"));
});
