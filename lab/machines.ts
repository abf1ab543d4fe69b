/**
 * The lab's hypervisor: a machine is a body (namespaces, or a virtual machine) on its links with an agent in it. A ghost is a machine
 * that has booted and stands still; it wakes in milliseconds.
 */
import { mkdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Logger } from "pino";
import { dialAgent } from "../drivers/identity/dial.ts";
import type { ProcessIdentity } from "../drivers/identity/process-identity.ts";
import type { Machine, MachineSnapshot } from "../drivers/ports.ts";
import { removeLines } from "../drivers/qemu/virtual-machine.ts";
import { agentClient } from "../drivers/tunnel/agent-client.ts";
import type { AppRoles } from "../drivers/vault/approles.ts";
import { writeCredentials } from "../drivers/vault/credentials.ts";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import { EMULATED_LIMITS, MACHINE_LIMITS } from "../models/limits-machines.ts";
import type { MachineState } from "../models/observation.ts";
import { endpointLinks, probeInnerAddress } from "./addresses.ts";
import { until } from "./await.ts";
import { Cgroups } from "./cgroups.ts";
import type { LabConfig } from "./config.ts";
import type { Action, Journal } from "./journal.ts";
import type { BodyRequest, MachineBody } from "./machine-body.ts";
import { type MachineRecord, readRecords, writeRecord } from "./machine-records.ts";
import { endProcesses } from "./namespace.ts";
import { NamespaceBody } from "./namespace-body.ts";
import { removeMachine } from "./topology.ts";
import { VmBody } from "./vm-body.ts";

/** As many as the largest of providers' regions have. */
const ZONES = ["zone-a", "zone-b", "zone-c", "zone-d", "zone-e", "zone-f"] as const;

/** Each has a folder in it. */
export function machinesDir({ stateDir }: Pick<LabConfig, "stateDir">): string {
  return join(stateDir, "machines");
}

interface Entry {
  readonly name: string;
  readonly number: number;
  readonly zone: string;
  readonly image: string;
  readonly createdAtMs: number;
  state: MachineState;
  readonly body: MachineBody;
}

export interface MachinesOptions {
  readonly config: LabConfig;
  readonly journal: Journal;
  /** Gives each agent a login of its own. */
  readonly appRoles: AppRoles;
  /** Undefined where agents are reached without certificates. */
  readonly identity: ProcessIdentity | undefined;
  readonly log: Logger;
  /** Told before a machine's processes end, and once it was repaired: faults are the business of faults.ts. */
  readonly onGone: (name: string) => Promise<void>;
  readonly onRepaired: (name: string) => Promise<void>;
}

export class Machines {
  readonly #options: MachinesOptions;
  readonly #entries = new Map<string, Entry>();
  /** Terminated machines, for those who ask again with the key of their launch. */
  readonly #gone = new Map<string, Omit<Entry, "body">>();
  /** Changes of one machine happen one after the other. */
  readonly #queues = new Map<string, Promise<unknown>>();
  readonly #cgroups: Cgroups;
  /** Zones of the machines that boot. */
  readonly #booting: string[] = [];

  constructor(options: MachinesOptions) {
    this.#options = options;
    this.#cgroups = new Cgroups(options.config.stateDir);
  }

  list(swarm: string): readonly Machine[] {
    this.#checkSwarm(swarm);
    return [...this.#entries.values()].map((entry) => this.#describe(entry));
  }

  /** UNKNOWN_ENDPOINT unless there is such a machine. */
  get(name: string): Machine {
    return this.#describe(this.#entry(name));
  }

  async launch(request: {
    operation: string;
    swarm: string;
    suspended: boolean;
    image?: string | undefined;
  }): Promise<Machine> {
    this.#checkSwarm(request.swarm);
    const machine = () => `ep-${this.#options.journal.nextNumber()}`;
    const name = await this.#once(request.operation, "launch", machine, (name) => this.#boot(name, request));
    const entry = this.#entries.get(name) ?? this.#gone.get(name);
    if (entry === undefined) throw new ForeshiftError("UNKNOWN_ENDPOINT", { value: name });
    return this.#describe(entry);
  }

  async suspend(request: { operation: string; name: string }): Promise<Machine> {
    return await this.#change(request, "suspend", async (entry) => {
      await entry.body.suspend();
      entry.state = "suspended";
    });
  }

  async resume(request: { operation: string; name: string }): Promise<Machine> {
    return await this.#change(request, "resume", async (entry) => {
      entry.state = "running";
      await entry.body.resume();
    });
  }

  async repair(request: { operation: string; name: string }): Promise<void> {
    await this.#change(request, "repair", async (entry) => {
      await entry.body.repairLinks();
      if (entry.state === "running") await entry.body.unfreeze();
      await this.#options.onRepaired(entry.name);
    });
  }

  async consoleLog(name: string): Promise<string> {
    return await this.#entry(name).body.consoleLog();
  }

  /** The one before it is replaced. INVALID_FIELD of a machine that cannot be kept so. */
  async snapshot(name: string): Promise<MachineSnapshot> {
    return await this.#inTurn(name, async () => {
      const { body } = this.#entry(name);
      if (body.snapshot !== undefined) return await body.snapshot();
      const detail = "a machine in namespaces holds nothing that could be kept; one that is virtual does";
      throw new ForeshiftError("INVALID_FIELD", { field: "snapshot", value: name, detail });
    });
  }

  /** A machine that is gone already is a success. */
  async terminate(request: { operation: string; name: string }): Promise<void> {
    await this.#once(
      request.operation,
      "terminate",
      () => request.name,
      async (name) => {
        const entry = this.#entries.get(name);
        if (entry !== undefined) await this.#destroy(entry);
      },
    );
  }

  /** Takes on the machines that went on while nobody was here, and ends what is left of those that were half made or have ended. */
  async adopt(): Promise<void> {
    const records = await readRecords(this.#machinesDir);
    const adopted = new Map<string, string>();
    for (const [name, record] of records) {
      try {
        if (record === undefined) throw new ForeshiftError("NOT_READY", { value: name, detail: "its launch was not done" });
        await this.#adoptOne(record);
        adopted.set(name, record.operation);
      } catch (thrown) {
        this.#options.log.warn({ event: "machine-not-adopted", machine: name, detail: messageOf(thrown) });
        await endProcesses(name);
        await removeMachine(name);
        await removeLines(join(this.#options.config.agentSocketDir, name));
        await this.#tearDown(name, undefined);
      }
    }
    this.#options.journal.restore(adopted);
    this.#options.log.info({ event: "machines-adopted", machines: [...adopted.keys()] });
  }

  /** Kills the agent for good, or lets it live again. */
  async keepAgent(name: string, alive: boolean): Promise<void> {
    await this.#entry(name).body.keepAgent(alive);
  }

  /** Brings its links up again, and wakes nothing. */
  async repairLinks(name: string): Promise<void> {
    await this.#entry(name).body.repairLinks();
  }

  /** The virtual machine that this one is; undefined of one in namespaces. */
  virtual(name: string): VmBody | undefined {
    const { body } = this.#entry(name);
    return body instanceof VmBody ? body : undefined;
  }

  agentSocket(name: string): string {
    return join(this.#options.config.agentSocketDir, `${name}.sock`);
  }

  /** A client of the machine's agent, to be closed. */
  agent(name: string, timeoutMs?: number): ReturnType<typeof agentClient> {
    const { identity } = this.#options;
    const dial = identity === undefined ? undefined : dialAgent(identity, name);
    return agentClient({ socketPath: this.agentSocket(name), dial, ...(timeoutMs === undefined ? {} : { timeoutMs }) });
  }

  zoneOf(name: string): string {
    return this.#entry(name).zone;
  }

  /** Of each machine. */
  get memoryBytes(): number {
    return this.#options.config.memoryBytes;
  }

  async #boot(
    name: string,
    { operation, image, suspended }: { operation: string; image?: string | undefined; suspended: boolean },
  ): Promise<void> {
    if (this.#entries.size + this.#booting.length >= LIMITS.lab.endpointsMax) {
      const detail = `the lab holds at most ${LIMITS.lab.endpointsMax} machines at a time`;
      throw new ForeshiftError("INVALID_FIELD", { field: "machines", value: this.#entries.size, detail });
    }
    const zone = this.#emptiestZone();
    this.#booting.push(zone);
    const number = Number(name.slice("ep-".length));
    let body: MachineBody | undefined;
    try {
      body = await this.#startBody(name, number, zone, image);
      await this.#untilTunnelUp(name);
      body.booted?.();
      const entry: Entry = {
        name,
        number,
        zone,
        image: image ?? this.#ownImage,
        createdAtMs: Date.now(),
        state: "running",
        body,
      };
      if (suspended) {
        await body.suspend();
        entry.state = "suspended";
      }
      await this.#record(entry, operation);
      this.#entries.set(name, entry);
      this.#options.log.info({ event: "machine-launched", machine: name, suspended });
    } catch (thrown) {
      await this.#tearDown(name, body);
      throw thrown;
    } finally {
      this.#booting.splice(this.#booting.indexOf(zone), 1);
    }
  }

  async #adoptOne({ process, name, number, zone, image, createdAtMs }: MachineRecord): Promise<void> {
    const body = await VmBody.adopt(this.#bodyRequest(name, number, zone, image), process);
    const state = (await body.isRunning()) ? "running" : "suspended";
    this.#entries.set(name, { name, number, zone, image, createdAtMs, state, body });
  }

  async #record({ body, name, number, zone, image, createdAtMs }: Entry, operation: string): Promise<void> {
    if (body.adoption === undefined) return;
    const record = { name, number, zone, image, createdAtMs, operation, process: body.adoption };
    await writeRecord(join(this.#machinesDir, name), record);
  }

  get #isVirtual(): boolean {
    return this.#options.config.hypervisor === "qemu";
  }

  get #bootTimeoutMs(): number {
    if (this.#options.config.processors === "emulated") return EMULATED_LIMITS.bootTimeoutMs;
    return this.#isVirtual ? MACHINE_LIMITS.bootTimeoutMs : LIMITS.lab.bootTimeoutMs;
  }

  get #machinesDir(): string {
    return machinesDir(this.#options.config);
  }

  #bodyRequest(name: string, number: number, zone: string, image: string | undefined): BodyRequest {
    const stateDir = join(this.#machinesDir, name);
    const credentialsFile = join(stateDir, "approle.json");
    const { config } = this.#options;
    return { name, number, zone, image, config, agentSocket: this.agentSocket(name), stateDir, credentialsFile };
  }

  async #startBody(name: string, number: number, zone: string, image: string | undefined): Promise<MachineBody> {
    const { config, appRoles } = this.#options;
    const request = this.#bodyRequest(name, number, zone, image);
    await mkdir(request.stateDir, { recursive: true, mode: 0o700 });
    await writeCredentials(request.credentialsFile, await appRoles.enrolAgent({ swarm: config.swarm, endpoint: name }));
    return config.hypervisor === "qemu" ? await VmBody.boot(request) : await NamespaceBody.boot(request, this.#cgroups);
  }

  async #untilTunnelUp(name: string): Promise<void> {
    const agent = this.agent(name, this.#isVirtual ? MACHINE_LIMITS.agentAnswerTimeoutMs : LIMITS.http.connectTimeoutMs);
    try {
      await until(async () => ((await agent.status()).tunnelUp ? true : undefined), {
        what: name,
        timeoutMs: this.#bootTimeoutMs,
        pollMs: this.#isVirtual ? MACHINE_LIMITS.agentPollMs : LIMITS.lab.pollMs,
      });
    } finally {
      await agent.close();
    }
  }

  async #destroy(entry: Entry): Promise<void> {
    await this.#options.onGone(entry.name);
    await this.#tearDown(entry.name, entry.body);
    const { name, number, zone, image, createdAtMs } = entry;
    this.#entries.delete(name);
    this.#gone.set(name, { name, number, zone, image, createdAtMs, state: "gone" });
    this.#options.log.info({ event: "machine-terminated", machine: entry.name });
  }

  async #tearDown(name: string, body: MachineBody | undefined): Promise<void> {
    await body?.end();
    await this.#dismiss(name);
    await rm(this.agentSocket(name), { force: true });
    await rm(join(this.#machinesDir, name), { recursive: true, force: true });
  }

  /** An AppRole that stays is of no use without its secret-id, which goes with the machine's files. */
  async #dismiss(endpoint: string): Promise<void> {
    const { appRoles, config, log } = this.#options;
    await appRoles.dismissAgent({ swarm: config.swarm, endpoint }).catch((thrown: unknown) => {
      log.warn({ event: "agent-not-dismissed", machine: endpoint, detail: messageOf(thrown) });
    });
  }

  async #change(
    request: { operation: string; name: string },
    action: Action,
    run: (entry: Entry) => Promise<void>,
  ): Promise<Machine> {
    this.#entry(request.name);
    await this.#once(
      request.operation,
      action,
      () => request.name,
      async (name) => await run(this.#entry(name)),
    );
    return this.get(request.name);
  }

  async #once(operation: string, action: Action, machine: () => string, run: (name: string) => Promise<void>): Promise<string> {
    const { journal } = this.#options;
    return await journal.once({ operation, action, machine }, async (name) => await this.#inTurn(name, () => run(name)));
  }

  async #inTurn<T>(name: string, run: () => Promise<T>): Promise<T> {
    const turn = (this.#queues.get(name) ?? Promise.resolve()).then(run);
    const settled = turn.catch(() => undefined);
    this.#queues.set(name, settled);
    return await turn.finally(() => {
      if (this.#queues.get(name) === settled) this.#queues.delete(name);
    });
  }

  /** Machines are spread, so that what happens to a zone happens to few of them. */
  #emptiestZone(): string {
    const taken = [...[...this.#entries.values()].map(({ zone }) => zone), ...this.#booting];
    const count = (zone: string) => taken.filter((one) => one === zone).length;
    return ZONES.reduce((best, zone) => (count(zone) < count(best) ? zone : best));
  }

  #describe({ name, number, state, image, createdAtMs }: Omit<Entry, "body">): Machine {
    const links = endpointLinks(number);
    return {
      name,
      swarm: this.#options.config.swarm,
      state,
      createdAtMs,
      image,
      link: {
        device: name,
        mac: links.lb.mac,
        returnDevice: name,
        returnMac: links.inner.mac,
        probeAddress: links.lb.near,
        probeInnerAddress: probeInnerAddress(number),
        agent: this.agentSocket(name),
      },
    };
  }

  /** Of a virtual machine its digest, which is its folder's name; namespaces have none, and take any name as a label. */
  get #ownImage(): string {
    const { hypervisor, image } = this.#options.config;
    return hypervisor === "qemu" && image !== undefined ? `sha256:${basename(image)}` : "lab";
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw new ForeshiftError("UNKNOWN_ENDPOINT", { value: name });
    return entry;
  }

  #checkSwarm(swarm: string): void {
    if (swarm !== this.#options.config.swarm) throw new ForeshiftError("UNKNOWN_SWARM", { value: swarm });
  }
}
