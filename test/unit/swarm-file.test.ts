/** What a person is told who writes a swarm file wrong. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { stringify } from "yaml";
import { ForeshiftError } from "../../models/errors.ts";
import { parseSwarmFile } from "../../models/swarm-file.ts";
import { SwarmSpec } from "../../models/swarm-spec.ts";
import { holds } from "../support/property.ts";

const GOOD = `
apiVersion: foreshift/v1
kind: Swarm
name: edge-1
vip: { v4: 198.19.0.1 }
endpoints: { count: 3, weight: 100 }
key:
  secret: { path: swarms/edge-1/wireguard, version: 1 }
  publicKey: q1nY2tZ0Kk3fC0hR5aTnGm4bqkVYb1i0Jf2x0sX8d1c=
`;

function refusal(text: string, format?: "yaml" | "json"): ForeshiftError {
  try {
    parseSwarmFile(text, format);
  } catch (thrown) {
    assert.ok(thrown instanceof ForeshiftError, String(thrown));
    return thrown;
  }
  return assert.fail("it was taken");
}

function says(text: string, code: string, field: string, message: RegExp): void {
  const error = refusal(text);
  assert.equal(error.code, code);
  assert.equal(error.field, field);
  assert.match(error.message, message);
  assert.ok(error.remedy.length > 10);
}

describe("a good file", () => {
  test("is taken, with defaults", () => {
    const spec = parseSwarmFile(GOOD);
    assert.equal(spec.name, "edge-1");
    assert.equal(spec.vip.port, 51_820);
    assert.equal(spec.outlier.missesToEject, 3);
    assert.deepEqual(parseSwarmFile(JSON.stringify(spec), "json"), spec);
    assert.deepEqual(parseSwarmFile(stringify(spec)), spec);
  });
});

describe("a wrong file", () => {
  test("an unknown field, with the nearest known one", () => {
    says(GOOD.replace("weight:", "wieght:"), "INVALID_FIELD", "endpoints.wieght", /no such field, did you mean weight\?/);
    says(
      `${GOOD}thresholds: { holdMilliseconds: 1 }\n`,
      "INVALID_FIELD",
      "thresholds.holdMilliseconds",
      /here are: rttFactor, .*holdMs/,
    );
    says(`${GOOD}tresholds: {}\n`, "INVALID_FIELD", "tresholds", /did you mean thresholds\?/);
  });

  test("a slip in a name is told before the field that is missing for it", () => {
    says(GOOD.replace("count:", "cuont:"), "INVALID_FIELD", "endpoints.cuont", /did you mean count\?; 1 more of its fields/);
  });

  test("a weight out of range", () => {
    says(GOOD.replace("weight: 100", "weight: 101"), "INVALID_FIELD", "endpoints.weight", /got 101; expected <=100/);
    says(GOOD.replace("weight: 100", "weight: heavy"), "INVALID_FIELD", "endpoints.weight", /got "heavy"; expected number/);
  });

  test("a bad VIP", () => {
    says(GOOD.replace("198.19.0.1", "198.19.0"), "INVALID_FIELD", "vip.v4", /got "198.19.0"; expected an IPv4 address/);
    says(GOOD.replace("198.19.0.1", "224.0.0.1"), "INVALID_FIELD", "vip.v4", /got 224.0.0.1; expected a unicast address/);
    says(GOOD.replace("{ v4: 198.19.0.1 }", "{ v4: 198.19.0.1, v6: 'fe80::1' }"), "INVALID_FIELD", "vip.v6", /no loopback/);
    says(GOOD.replace("{ v4: 198.19.0.1 }", "198.19.0.1"), "INVALID_FIELD", "vip", /expected object/);
  });

  test("a missing name, a bad one", () => {
    says(GOOD.replace("name: edge-1\n", ""), "INVALID_FIELD", "name", /got nothing; expected string/);
    says(GOOD.replace("name: edge-1\n", "name: Edge 1\n"), "INVALID_FIELD", "name", /got "Edge 1"; expected 1 to 31 of a-z/);
  });

  test("a name twice", () => {
    says(`${GOOD}name: other\n`, "DUPLICATE_NAME", "swarm file, line 10,", /names name twice/);
    says(`${GOOD}---${GOOD}`, "DUPLICATE_NAME", "name", /name names edge-1 twice/);
    says(`${GOOD}---${GOOD.replace("name: edge-1", "name: edge-2")}`, "INVALID_FIELD", "swarm file", /got 2 documents/);
  });

  test("fields that contradict each other", () => {
    says(
      `${GOOD}thresholds: { lossDegraded: 0.5 }\n`,
      "INVALID_FIELD",
      "thresholds.lossDegraded",
      /at most 0.3, which is thresholds.lossCritical/,
    );
    says(`${GOOD}outlier: { probeTimeoutMs: 500 }\n`, "INVALID_FIELD", "outlier.probeTimeoutMs", /at most 100/);
    says(
      GOOD.replace("q1nY2tZ0Kk3fC0hR5aTnGm4bqkVYb1i0Jf2x0sX8d1c=", "short"),
      "INVALID_FIELD",
      "key.publicKey",
      /32 bytes in base64/,
    );
  });

  test("a secret in the wrong place is not repeated", () => {
    const error = refusal(GOOD.replace("{ path: swarms/edge-1/wireguard, version: 1 }", "hunter2"));
    assert.equal(error.field, "key.secret");
    assert.doesNotMatch(JSON.stringify(error.toBody()), /hunter2/);
    const unknown = refusal(GOOD.replace("  publicKey", "  privateKey: hunter2\n  publicKey"));
    assert.equal(unknown.field, "key.privateKey");
    assert.doesNotMatch(JSON.stringify(unknown.toBody()), /hunter2/);
    assert.doesNotMatch(JSON.stringify(refusal(`${GOOD}  secret: 'hunter2\n`).toBody()), /hunter2/);
  });

  test("no text, no YAML, no JSON, too much of it, a nest of aliases", () => {
    says("", "INVALID_FIELD", "swarm file", /got nothing/);
    says("name: [", "INVALID_FIELD", "swarm file", /got text that is not YAML/);
    says("just words", "INVALID_FIELD", "swarm file", /expected object/);
    assert.match(refusal(GOOD, "json").message, /expected JSON/);
    says("#".repeat(300_000), "INVALID_FIELD", "swarm file", /at most 262144/);
    const bomb = [
      "a: &a [x]",
      ..."bcdefghi".split("").map((name, index) => `${name}: &${name} [${`*${"abcdefgh"[index]},`.repeat(9)}]`),
    ];
    says(bomb.join("\n"), "INVALID_FIELD", "swarm file", /alias/i);
  });

  test("any text and any change of a good file is taken or refused by a coded error", (context) => {
    const value = fc.oneof(fc.integer(), fc.double(), fc.string(), fc.boolean(), fc.constant(null), fc.array(fc.integer()));
    const good = parseSwarmFile(GOOD);
    const paths = pathsOf(good);
    holds(
      context,
      fc.property(fc.oneof(fc.string(), fc.tuple(fc.constantFrom(...paths), value)), (input) => {
        const text = typeof input === "string" ? input : JSON.stringify(withValue(good, input[0], input[1]));
        try {
          assert.ok(SwarmSpec.safeParse(parseSwarmFile(text)).success);
        } catch (thrown) {
          assert.ok(thrown instanceof ForeshiftError, String(thrown));
          if (typeof input !== "string") assert.ok(isAbout(thrown.field ?? "", input[0]), `${thrown.field}: ${thrown.message}`);
        }
      }),
      2_000,
    );
  });
});

function pathsOf(value: object, before: readonly string[] = []): readonly (readonly string[])[] {
  return Object.entries(value).flatMap(([key, inner]) => {
    const path = [...before, key];
    return typeof inner === "object" && inner !== null ? [path, ...pathsOf(inner, path)] : [path];
  });
}

function withValue(value: object, [key = "", ...rest]: readonly string[], changed: unknown): object {
  const inner = Object.entries(value).find(([name]) => name === key)?.[1];
  const next = rest.length === 0 || typeof inner !== "object" || inner === null ? changed : withValue(inner, rest, changed);
  return { ...value, [key]: next };
}

/** The changed field itself, or one of the same group that it contradicts. */
function isAbout(field: string, path: readonly string[]): boolean {
  return field.split(".")[0] === path[0];
}
