// What an instance of EC2 makes of its user data and of what the metadata service says of it.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { rootCertificates } from "node:tls";
import { InstanceMetadata } from "../../drivers/aws/instance-metadata.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import { instanceStart } from "../../workers/agent/instance-config.ts";
import { beInstance, type MetadataServer, startMetadata } from "../support/aws/metadata.ts";

const USER_DATA = {
  device: "wg0",
  listenPort: 51_820,
  agentPort: 7_443,
  reflexSocket: "10.0.0.4:7445",
  collectorSocket: "10.0.0.5:7444",
  balancer: "10.0.0.4",
  keySecret: { path: "swarms/eu/wireguard", version: 1 },
  vault: { address: "https://vault.internal:8200" },
  prepare: "ip address add 198.19.0.1/32 dev lo",
};
const INSTANCE = { id: "i-0123456789abcdef0", swarm: "eu", address: "10.0.1.17", region: "eu-west-1", zone: "eu-west-1b" };

let metadata: MetadataServer;
beforeEach(async () => {
  metadata = await startMetadata();
  beInstance(metadata, INSTANCE, USER_DATA);
});
afterEach(() => metadata.close());
const start = () => instanceStart(new InstanceMetadata(metadata.url), metadata.url);

test("one user data for all; name, swarm, place and login are the instance's own", async () => {
  const { config, files, script } = await start();
  const { agentPort: _, balancer, prepare, vault, ...shared } = USER_DATA;
  const { swarm, id: endpoint, address, region, zone } = INSTANCE;
  const metadataUrl = metadata.url;
  const auth = { method: "aws", role: "agent", mount: "foreshift-aws/eu", serverId: "foreshift/eu", region, metadataUrl };
  const { mounts, ...reached } = config.vault;
  assert.equal(mounts?.kv, "foreshift");
  assert.deepEqual(reached, { ...vault, auth });
  assert.partialDeepStrictEqual(config, {
    ...shared,
    swarm,
    endpoint,
    socketPath: "10.0.1.17:7443",
    identity: { dir: "/run/foreshift/identity" },
    place: { region, zone },
    cloud: { kind: "ec2", metadataUrl },
    ownMachine: true,
    probes: { address, balancer },
  });
  assert.equal(script, prepare);
  assert.deepEqual(files, []);
});

test("Vault's authorities come in the user data and go to a file", async () => {
  const authorities = rootCertificates.slice(0, 2).join("\n");
  beInstance(metadata, INSTANCE, { ...USER_DATA, vault: { ...USER_DATA.vault, authorities } });
  const { config, files } = await start();
  assert.deepEqual(files, [{ path: "/run/foreshift/vault-authorities.pem", content: authorities }]);
  assert.equal(config.vault.caFile, "/run/foreshift/vault-authorities.pem");
});

test("user data that could hold a secret, or is wrong, is refused by its field", async () => {
  const { vault, agentPort: _, ...rest } = USER_DATA;
  const refused = async (userData: unknown, words: RegExp) => {
    beInstance(metadata, INSTANCE, userData);
    await assert.rejects(start(), (error: ForeshiftError) => error.code === "INVALID_FIELD" && words.test(error.message));
  };
  await refused(
    { ...USER_DATA, vault: { ...vault, auth: { method: "token-file", tokenFile: "/t" } } },
    /user data\.vault .*auth/,
  );
  await refused({ ...USER_DATA, privateKey: "k" }, /user data .*privateKey/);
  await refused(
    { ...USER_DATA, vault: { ...vault, authorities: "-----BEGIN EC PRIVATE KEY-----\nMA==\n-----END EC PRIVATE KEY-----" } },
    /user data\.vault\.authorities/,
  );
  await refused(rest, /user data\.agentPort|user data\.vault/);
  metadata.texts.set("user-data", "#!/bin/sh");
  await assert.rejects(start(), /user data is not valid.*not JSON/);
});

test("what EC2 does not say is named, with what to do", async () => {
  metadata.texts.delete("meta-data/tags/instance/foreshift:swarm");
  await assert.rejects(
    start(),
    (error: ForeshiftError) => error.code === "NOT_READY" && /let its metadata show tags/.test(error.message),
  );
  metadata.texts.delete("user-data");
  await assert.rejects(start(), /the launch template has no user data/);
});
