/** The lab's process, started as the supervisor starts it, with an OpenBao of its own that holds the swarm's key. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NO_RETRY, UnixHttpClient } from "../../drivers/http-unix.ts";
import { openVault } from "../../drivers/vault/vault.ts";
import { removeCgroups } from "../../lab/cgroups.ts";
import { labCommand } from "../../lab/enclosure.ts";
import { provisionSwarm } from "../../lab/provision.ts";
import { LAB_SWARM, LAB_VIP } from "../../lab/spec.ts";
import type { OpenBaoService } from "../../setup/services.ts";
import { eventually } from "./eventually.ts";
import { type TestHome, testHome, testOpenBao } from "./services.ts";

export interface LabDaemon {
  readonly child: ChildProcess;
  readonly socketPath: string;
  readonly http: UnixHttpClient;
  readonly home: string;
  agentSocket(name: string): string;
  /** Ends the process as the supervisor does, and starts it again on the same state. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export async function startLabDaemon(options: { clients: number } & Readonly<Record<string, unknown>>): Promise<LabDaemon> {
  const where = await testHome();
  try {
    const bao = await testOpenBao(where);
    try {
      return await start(where, bao, options);
    } catch (thrown) {
      await bao.stop();
      throw thrown;
    }
  } catch (thrown) {
    await where.remove();
    throw thrown;
  }
}

async function start(where: TestHome, bao: OpenBaoService, options: Readonly<Record<string, unknown>>): Promise<LabDaemon> {
  assert.ok(bao.socket !== undefined);
  await mkdir(where.run, { recursive: true, mode: 0o700 });
  const credentials = (process: string) => join(where.home, `${process}.approle`);
  await bao.deliver("provision", credentials("provision"));
  await bao.deliver("hypervisor", credentials("hypervisor"));
  const vault = (process: string) => ({
    socketPath: bao.socket,
    auth: { method: "approle" as const, credentialsFile: credentials(process) },
  });
  const provisioning = openVault(vault("provision"));
  const key = await provisionSwarm(provisioning);
  await provisioning.close();
  const configFile = join(where.home, "lab.json");
  const socketPath = join(where.run, "hypervisor.sock");
  const config = {
    swarm: LAB_SWARM,
    vip: LAB_VIP,
    swarmPublicKey: key.publicKey,
    keySecret: key.secret,
    socketPath,
    agentSocketDir: join(where.run, "agents"),
    reflexSocket: join(where.run, "reflex.sock"),
    collectorSocket: join(where.run, "collector.sock"),
    vault: vault("hypervisor"),
    outsideEventsFile: join(where.home, "outside-events.json"),
    stateDir: join(where.home, "lab"),
    logDir: where.home,
    ...options,
  };
  await writeFile(configFile, JSON.stringify(config), { mode: 0o600 });
  const logFile = join(where.home, "lab.log");
  const http = new UnixHttpClient({ socketPath, name: "lab" });
  const goesOn = options["hypervisor"] === "qemu";
  let child = await launch(configFile, logFile, http, goesOn);
  return {
    get child() {
      return child;
    },
    socketPath,
    http,
    home: where.home,
    agentSocket: (name) => join(where.run, "agents", `${name}.sock`),
    restart: async () => {
      await end(child);
      child = await launch(configFile, logFile, http, goesOn);
    },
    stop: async () => {
      await end(child);
      await removeCgroups(config.stateDir);
      await http.close();
      await bao.stop();
      await where.remove();
    },
  };
}

async function launch(configFile: string, logFile: string, http: UnixHttpClient, goesOn: boolean): Promise<ChildProcess> {
  const [command, ...args] = labCommand({ node: process.execPath, configFile, uid: process.getuid?.() ?? 0, goesOn });
  const log = openSync(logFile, "a", 0o600);
  const child = spawn(command, args, { stdio: ["ignore", log, log] });
  closeSync(log);
  try {
    await eventually(
      "the lab's process answers",
      async () => {
        if (child.exitCode !== null) throw new Error(`it ended: ${await readFile(logFile, "utf8")}`);
        return await http.get("/v1/lab", { timeoutMs: 1_000, retry: NO_RETRY }).then(
          () => true,
          () => false,
        );
      },
      30_000,
    );
  } catch (thrown) {
    await end(child);
    throw thrown;
  }
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
}
