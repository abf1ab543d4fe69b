// A name as a front door, against a real DNS server that takes signed updates.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { after, describe, test } from "node:test";
import { Rfc2136Config } from "../../drivers/balancer/front-door-config.ts";
import { rfc2136FrontDoor } from "../../drivers/balancer/rfc2136.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import type { SteeringState } from "../../models/steering.ts";
import { type DnsServer, KEY_NAME, startDnsServer, ZONE } from "../support/dns-server.ts";
import { specFor } from "../workflows/support.ts";
import { World } from "../workflows/world.ts";

const started = await startDnsServer();
if (typeof started === "string") test("a name at a DNS server", { skip: started }, () => undefined);
else describe("a name at a DNS server", () => suite(started));

function suite(dns: DnsServer): void {
  after(() => dns.stop());
  const NAME = `in.${ZONE}`;
  const configOf = (swarm: string, v4: string, change: object = {}) => {
    const key = { name: KEY_NAME, secretFile: dns.secretFile };
    const at = { server: "127.0.0.1", port: dns.port, zone: ZONE, name: NAME };
    return Rfc2136Config.parse({ kind: "rfc2136", swarm, ...at, addresses: { v4 }, key, ...change });
  };
  const stateOf = (swarm: string, weight = 100): SteeringState => {
    const world = new World();
    world.addMember("ep-1", specFor({ name: swarm }), weight);
    return world.steering as SteeringState;
  };

  test("each swarm's address is under the name while it takes anybody", async () => {
    const v6 = "2001:db8::19";
    const east = rfc2136FrontDoor(configOf("east", "198.19.0.1", { addresses: { v4: "198.19.0.1", v6 } }));
    const west = rfc2136FrontDoor(configOf("west", "198.19.0.2"));
    assert.deepEqual(await dns.addresses(NAME), []);
    for (const door of [east, west]) for (const swarm of ["east", "west"]) await door.apply(stateOf(swarm));
    assert.deepEqual(await dns.addresses(NAME), ["198.19.0.1", "198.19.0.2"]);
    assert.deepEqual(await dns.addresses(NAME, "AAAA"), [v6]);
    await east.apply(stateOf("east", 0));
    assert.deepEqual(await dns.addresses(NAME), ["198.19.0.2"]);
    assert.deepEqual(await dns.addresses(NAME, "AAAA"), []);
    await west.apply(stateOf("west", 0));
    assert.deepEqual(await dns.addresses(NAME), []);
    await west.apply(stateOf("west", 1));
    assert.deepEqual(await dns.addresses(NAME), ["198.19.0.2"]);
  });

  test("a key that the server does not know, one that is another, and a name that the key may not change are refused", async () => {
    const wrong = join(dirname(dns.secretFile), "wrong");
    await writeFile(wrong, Buffer.alloc(32, 8).toString("base64"), { mode: 0o600 });
    const refused = async (change: object, why: RegExp) => {
      const door = rfc2136FrontDoor(configOf("north", "198.19.0.3", change));
      await assert.rejects(door.apply(stateOf("north")), (error: ForeshiftError) => {
        assert.equal(error.code, "CLOUD_REFUSED", error.message);
        assert.match(error.message, why);
        return true;
      });
    };
    await refused({ key: { name: "somebody", secretFile: dns.secretFile } }, /NOTAUTH/);
    await refused({ key: { name: KEY_NAME, secretFile: wrong } }, /NOTAUTH/);
    await refused({ name: `other.${ZONE}` }, /REFUSED|NOTAUTH/);
    assert.deepEqual(await dns.addresses(`other.${ZONE}`), []);
  });

  test("nobody there, and no key, are said", async () => {
    const at = (change: object) => rfc2136FrontDoor(configOf("south", "198.19.0.4", change)).apply(stateOf("south"));
    await assert.rejects(at({ port: 1 }), (error: ForeshiftError) => error.code === "UNREACHABLE" && error.retryable);
    const key = { name: KEY_NAME, secretFile: join(dirname(dns.secretFile), "none") };
    await assert.rejects(
      at({ key }),
      (error: ForeshiftError) => error.code === "INVALID_FIELD" && error.field === "key.secretFile",
    );
  });
}
