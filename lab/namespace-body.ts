/** A machine in namespaces of this machine: an agent, and the WireGuard that it starts. Standing still is SIGSTOP. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { agentConfig } from "./agent-config.ts";
import { type Cgroups, ENTER_CGROUP } from "./cgroups.ts";
import { readTail, writePrivateFile } from "./files.ts";
import { KeptProcess } from "./kept-process.ts";
import { type BodyRequest, bootOrEnd, type MachineBody } from "./machine-body.ts";
import { endProcesses, signalHost } from "./namespace.ts";
import { setPacketAllowance } from "./packet-allowance.ts";
import { addMachine, bringLinksUp, removeMachine } from "./topology.ts";

const AGENT = fileURLToPath(new URL("../workers/agent.ts", import.meta.url));

export class NamespaceBody implements MachineBody {
  readonly #request: BodyRequest;
  readonly #cgroups: Cgroups;
  #agent: KeptProcess | undefined;

  private constructor(request: BodyRequest, cgroups: Cgroups) {
    this.#request = request;
    this.#cgroups = cgroups;
  }

  static async boot(request: BodyRequest, cgroups: Cgroups): Promise<NamespaceBody> {
    const body = new NamespaceBody(request, cgroups);
    return await bootOrEnd(body, () => body.#boot());
  }

  async suspend(): Promise<void> {
    signalHost(this.#request.name, "SIGSTOP");
  }

  async resume(): Promise<void> {
    signalHost(this.#request.name, "SIGCONT");
  }

  async repairLinks(): Promise<void> {
    const { name, number, config } = this.#request;
    await bringLinksUp(name, number, config.vip);
  }

  async unfreeze(): Promise<void> {
    signalHost(this.#request.name, "SIGCONT");
  }

  /** What its agent logged. */
  async consoleLog(): Promise<string> {
    return await readTail(this.#logFile);
  }

  get #logFile(): string {
    return join(this.#request.config.logDir, `agent-${this.#request.name}.log`);
  }

  async keepAgent(alive: boolean): Promise<void> {
    if (alive) this.#agent?.revive();
    else this.#agent?.kill();
  }

  async end(): Promise<void> {
    const { name } = this.#request;
    this.#agent?.kill();
    await endProcesses(name);
    await removeMachine(name);
    this.#cgroups.remove(name);
  }

  async #boot(): Promise<void> {
    const { name, number, config, stateDir, credentialsFile, agentSocket } = this.#request;
    await addMachine(name, number, config.vip);
    if (config.packetAllowancePerSecond !== undefined) await setPacketAllowance(name, config.packetAllowancePerSecond);
    const cgroup = this.#cgroups.add(name);
    const configFile = join(stateDir, "agent.json");
    const { reflexSocket, collectorSocket } = config;
    const places = { socketPath: agentSocket, reflexSocket, collectorSocket, credentialsFile, stateDir };
    const own = { implementation: "userspace", ...(cgroup === undefined ? {} : { cgroup }) };
    await writePrivateFile(configFile, agentConfig(this.#request, places, own));
    this.#agent = new KeptProcess({
      host: name,
      program: [...(cgroup === undefined ? [] : [...ENTER_CGROUP, cgroup]), process.execPath, AGENT, configFile],
      logFile: this.#logFile,
    });
  }
}
