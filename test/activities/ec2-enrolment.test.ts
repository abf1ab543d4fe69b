/**
 * An instance of EC2 gets its first identity from what it is: AWS's word for it, moto's here, asked by a real OpenBao. OpenBao has AWS logins
 * as a plugin, which no package brings: FORESHIFT_OPENBAO_PLUGINS names the folder with `openbao-plugin-auth-aws`.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect, type PeerCertificate } from "node:tls";
import { RunInstancesCommand, StopInstancesCommand, TerminateInstancesCommand } from "@aws-sdk/client-ec2";
import { InstanceMetadata } from "../../drivers/aws/instance-metadata.ts";
import { openVault, type Vault } from "../../drivers/vault/vault.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import { agentIdentity } from "../../models/identity.ts";
import { onFreePort } from "../../setup/ports.ts";
import type { OpenBaoService } from "../../setup/services.ts";
import { instanceStart } from "../../workers/agent/instance-config.ts";
import { assertAllowsExactly } from "../support/aws/allowed.ts";
import { type Cloud, startCloud } from "../support/aws/cloud.ts";
import { assumeRole, createRole } from "../support/aws/iam.ts";
import { beInstance, giveRole, type MetadataServer, startMetadata } from "../support/aws/metadata.ts";
import { eventually } from "../support/eventually.ts";
import { type TestHome, testHome, testOpenBao } from "../support/services.ts";
import { withVault } from "../support/test-vault.ts";

const HOUR_MS = 3_600_000;
const PROGRAM = join(import.meta.dirname, "..", "..", "workers", "instance.ts");
const { FORESHIFT_OPENBAO_PLUGINS: plugins = "" } = process.env;
const started =
  plugins === "" ? "FORESHIFT_OPENBAO_PLUGINS names no folder with OpenBao's plugin for AWS logins" : await startCloud();
if (typeof started === "string") test("enrolment on EC2", { skip: started }, () => undefined);
else describe("enrolment on EC2", () => suite(started));

function suite(cloud: Cloud): void {
  const { config, ec2, relay } = cloud;
  const { region } = config;
  let where: TestHome;
  let bao: OpenBaoService;
  let metadata: MetadataServer;
  let agentPort: number;
  const opened: Vault[] = [];

  before(async () => {
    where = await testHome();
    metadata = await startMetadata();
    agentPort = await onFreePort((port) => Promise.resolve(port));
    const endpoints = { sts: relay.url, ec2: relay.url, iam: relay.url };
    const keysFile = join(where.home, "vault-keys.json");
    await writeFile(keysFile, JSON.stringify({ accessKeyId: "test", secretAccessKey: "test" }), { mode: 0o600 });
    const stated = async (role: string) => ({ iamRoleArn: await createRole(cloud, role), region, endpoints, keysFile });
    const enrolments = { eu: await stated("foreshift-eu"), us: await stated("foreshift-us") };
    process.env["FORESHIFT_VAULT_AWS"] = JSON.stringify(enrolments);
    relay.calls.splice(0);
    // From here on there are no keys but those that the metadata service gives; the cloud's own client has its.
    delete process.env["AWS_ACCESS_KEY_ID"];
    delete process.env["AWS_SECRET_ACCESS_KEY"];
    bao = await testOpenBao(where);
    for (const swarm of ["eu", "us"])
      await withVault(bao, ({ kv }) => kv.write(`swarms/${swarm}/wireguard`, { privateKey: swarm }));
  });
  after(async () => {
    for (const vault of opened) await vault.close();
    await bao?.stop();
    await metadata?.close();
    await cloud.stop();
    await where?.remove();
  });

  async function launch(): Promise<string> {
    const LaunchTemplate = { LaunchTemplateId: config.launchTemplate.id };
    const SubnetId = config.subnets[0]?.id;
    const { Instances } = await ec2.send(new RunInstancesCommand({ LaunchTemplate, SubnetId, MinCount: 1, MaxCount: 1 }));
    return Instances?.[0]?.InstanceId ?? "";
  }

  /** What EC2 gives an instance: a word on itself, the user data of its launch, and keys for its role. */
  async function become(instance: string, role: string, swarm: string): Promise<void> {
    beInstance(metadata, { id: instance, swarm, address: "127.0.0.1", region, zone: `${region}a` }, userData());
    giveRole(metadata, role, await assumeRole(cloud, role, instance));
  }

  const userData = () => ({
    device: "fs-enrol",
    listenPort: 51_999,
    agentPort,
    stateDir: join(where.home, "agent"),
    reflexSocket: "127.0.0.1:1",
    collectorSocket: "127.0.0.1:1",
    // Nothing of that name: the agent of this test makes no tunnel.
    keySecret: { path: "swarms/eu/none", version: 1 },
    vault: { address: bao.address },
  });

  /** As the instance's agent opens it. */
  async function vaultOf(instance: string, role = "foreshift-eu", swarm = "eu", changes = {}): Promise<Vault> {
    await become(instance, role, swarm);
    const { config: made } = await instanceStart(new InstanceMetadata(metadata.url), metadata.url);
    const { auth, ...reached } = made.vault;
    const vault = openVault({ ...reached, auth: { ...auth, ...changes } });
    opened.push(vault);
    return vault;
  }

  const keyOf = (swarm: string) => ({ path: `swarms/${swarm}/wireguard`, version: 1 });
  const certificate = (vault: Vault, swarm: string, instance: string) =>
    vault.pki.issue({ identity: agentIdentity(swarm, instance), ttlMs: HOUR_MS });

  test("an instance gets a certificate of its own name and its swarm's keys, and nobody else's", async () => {
    const [one, other] = [await launch(), await launch()];
    const vault = await vaultOf(one);
    await vault.renewToken();
    // The last to log in, so what Vault knows of the role's instances is newer than the first's login.
    const second = await vaultOf(other);
    const { certificate: pem } = await certificate(vault, "eu", one);
    assert.match(new X509Certificate(pem).subjectAltName ?? "", new RegExp(`URI:spiffe://foreshift/agent/eu\\.${one}$`));
    await certificate(second, "eu", other);
    for (const [swarm, name] of [
      ["eu", other],
      ["us", one],
      ["eu", "ep-1"],
    ] as const)
      await assert.rejects(certificate(vault, swarm, name), `${swarm}.${name}`);
    assert.deepEqual(await vault.kv.read(keyOf("eu")), { privateKey: "eu" });
    await assert.rejects(vault.kv.read(keyOf("us")), { code: "UNAUTHORISED" });
    const credentialsFile = join(where.home, "control.approle");
    await bao.deliver("control", credentialsFile);
    const control = openVault({ address: bao.address, auth: { method: "approle", credentialsFile } });
    opened.push(control);
    await control.appRoles.disownAgent({ swarm: "eu", endpoint: one });
    await become(one, "foreshift-eu", "eu");
    const logins = [vault.logins, second.logins];
    for (const each of [vault, second]) await each.kv.read(keyOf("eu"));
    assert.deepEqual([vault.logins - 1, second.logins], logins, "its token, and no other, was of no use");
  });

  test("who is no running instance of the swarm's role gets in nowhere, nor stays", async () => {
    const instance = await launch();
    const inRole = await vaultOf(instance);
    await inRole.kv.read(keyOf("eu"));
    const refused = async (why: RegExp, ...who: Parameters<typeof vaultOf>) => {
      const vault = await vaultOf(...who);
      await assert.rejects(vault.kv.read(keyOf("eu")), (error: ForeshiftError) => {
        assert.equal(error.code, "UNAUTHORISED");
        assert.match(String(error.cause), why);
        return true;
      });
    };
    await refused(/does not belong to the role/, instance, "foreshift-us", "eu");
    await refused(/as a valid EC2 instance/, "i-0123456789abcdef0");
    await refused(/as a valid EC2 instance/, "somebody");
    // What is signed for one Vault is of no use at another.
    await refused(/Server-ID/, instance, "foreshift-eu", "eu", { serverId: "another" });

    await ec2.send(new StopInstancesCommand({ InstanceIds: [instance] }));
    await assert.rejects(inRole.renewToken(), "a token is not renewed for an instance that does not run");
    await refused(/not in 'running' state/, instance);
    await ec2.send(new TerminateInstancesCommand({ InstanceIds: [instance] }));
    await refused(/not in 'running' state/, instance);
  });

  test("its tokens are worthless once control ends them; while it runs it can log in anew", async () => {
    const instance = await launch();
    const vault = await vaultOf(instance);
    await vault.kv.read(keyOf("eu"));
    const credentialsFile = join(where.home, "control.json");
    await bao.deliver("control", credentialsFile);
    const control = openVault({ address: bao.address, auth: { method: "approle", credentialsFile } });
    opened.push(control);
    await control.appRoles.disownAgent({ swarm: "eu", endpoint: instance });
    await vault.kv.read(keyOf("eu"));
    assert.equal(vault.logins, 2);
  });

  test("the instance's program becomes the agent, and shows a certificate of the instance's name", async () => {
    const instance = await launch();
    await become(instance, "foreshift-eu", "eu");
    const program = spawn(process.execPath, [PROGRAM, metadata.url], { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    program.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
    const ended = once(program, "exit");
    try {
      const shown = await eventually("it shows a certificate", () => certificateAt(agentPort).catch(() => undefined), 30_000);
      assert.equal(shown.subjectaltname, `URI:spiffe://foreshift/agent/eu.${instance}`, said);
    } finally {
      program.kill("SIGTERM");
      await ended;
    }
  });

  test("Vault's own policy allows every call that it made, and nothing else", async () => {
    await assertAllowsExactly(
      "vault.json",
      relay.calls.filter(({ action }) => action !== "sts:GetCallerIdentity"),
      [],
    );
  });
}

/** Of whoever listens there. A caller without a certificate of its own is turned away after it has seen it. */
async function certificateAt(port: number): Promise<PeerCertificate> {
  const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false });
  try {
    await once(socket, "secureConnect");
    return socket.getPeerCertificate();
  } finally {
    socket.destroy();
  }
}
