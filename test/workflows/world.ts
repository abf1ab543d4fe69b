/**
 * A world in memory behind the ports, for faults that cannot be produced on command in the real one: any call can be made to fail or to
 * kill its caller, before or after it took effect. It keeps score: what was done twice, which living session was dropped.
 */
import type {
  AgentStatus,
  AuditEntry,
  AuditRow,
  Balancer,
  EndpointAgent,
  Hypervisor,
  Machine,
  StopSwitch,
  Store,
} from "../../drivers/ports.ts";
import { ForeshiftError } from "../../models/errors.ts";
import type { Heartbeat } from "../../models/observation.ts";
import type { Peer, SessionState } from "../../models/session.ts";
import type { MemberHealth, MemberLink, ReflexEvent, SteeringState } from "../../models/steering.ts";
import type { SwarmSpec } from "../../models/swarm-spec.ts";

interface SimulatedMachine {
  readonly name: string;
  state: "running" | "suspended" | "gone";
  readonly createdAtMs: number;
  /** WireGuard and agent answer. */
  alive: boolean;
  agentAnswers: boolean;
  ejectedAtMs: number | undefined;
  ejections: number;
  /** Packet loss that its probes show, 0..1. */
  loss: number;
  /** Sessions whose keys it holds: public key -> Unix ms of the handshake. */
  readonly keys: Map<string, number>;
  peers: number;
}

interface SimulatedClient {
  readonly publicKey: string;
  readonly inner: string;
  readonly outer: string;
  /** Whose keys it sends with. */
  endpoint: string | undefined;
  answersHandshakes: boolean;
  sendsTraffic: boolean;
}

export interface Score {
  readonly launches: number;
  readonly terminated: readonly string[];
  /** Living sessions that lost their keys. */
  readonly dropped: readonly string[];
  /** Handshakes started, for each client and endpoint: `key>endpoint`. */
  readonly adopted: Readonly<Record<string, number>>;
  readonly applied: number;
  readonly runningMachines: readonly string[];
}

/** Called for each call on a port, before it is made; may throw instead. */
export type Interceptor = (call: string, operation: string | undefined, phase: "before" | "after") => void | Promise<void>;

const RECEIVED_BYTES = 1_000;

export class World {
  readonly machines = new Map<string, SimulatedMachine>();
  readonly clients: SimulatedClient[] = [];
  readonly auditRows: AuditRow[] = [];
  readonly pages: { operation: string; subject: string; text: string }[] = [];
  intercept: Interceptor = () => undefined;
  steering: SteeringState | undefined;
  reflexAnswers = true;
  storeAnswers = true;
  readonly #switches = new Map<string, StopSwitch>();
  readonly #specs = new Map<string, SwarmSpec>();
  readonly #done = new Map<string, unknown>();
  readonly #adopted = new Map<string, number>();
  readonly #dropped: string[] = [];
  readonly #terminated: string[] = [];
  readonly #events: ReflexEvent[] = [];
  #launches = 0;
  #applied = 0;

  /** A machine that runs, a member of the balancer with this weight. */
  addMember(name: string, spec: SwarmSpec, weight = 100): void {
    this.addMachine(name, "running");
    const member = { endpoint: name, weight, draining: false, link: linkTo(name) };
    this.steering ??= emptySteering(spec);
    this.steering = { ...this.steering, epoch: this.steering.epoch + 1, members: [...this.steering.members, member] };
  }

  addMachine(name: string, state: "running" | "suspended"): SimulatedMachine {
    const machine: SimulatedMachine = {
      name,
      state,
      createdAtMs: Date.now(),
      alive: true,
      agentAnswers: true,
      ejectedAtMs: undefined,
      ejections: 0,
      loss: 0,
      keys: new Map(),
      peers: 0,
    };
    this.machines.set(name, machine);
    return machine;
  }

  /** Clients with a session on the endpoint. */
  connect(endpoint: string, count: number, traffic = true): void {
    for (let number = 0; number < count; number += 1) {
      const index = this.clients.length + 1;
      const client: SimulatedClient = {
        publicKey: `${"A".repeat(36)}${String(index).padStart(6, "0")}A=`,
        inner: `10.66.${Math.floor(index / 250)}.${index % 250}`,
        outer: `198.18.${100 + Math.floor(index / 250)}.${index % 250}:40000`,
        endpoint,
        answersHandshakes: true,
        sendsTraffic: traffic,
      };
      this.clients.push(client);
      this.machine(endpoint).keys.set(client.publicKey, Date.now());
    }
  }

  /** The endpoint dies; the reflex ejects it, and its sessions live on another member at once. */
  crash(name: string): void {
    const machine = this.machine(name);
    machine.alive = false;
    machine.agentAnswers = false;
    machine.ejectedAtMs = Date.now();
    machine.ejections += 1;
    this.#event("ejected", name);
    const shadow = [...this.machines.values()].find((one) => one.name !== name && this.isMember(one.name) && one.alive);
    for (const client of this.clients) {
      if (client.endpoint === name) this.#shakeHands(client, shadow);
    }
  }

  isMember(name: string): boolean {
    return this.steering?.members.some((member) => member.endpoint === name) ?? false;
  }

  machine(name: string): SimulatedMachine {
    const machine = this.machines.get(name);
    if (machine === undefined || machine.state === "gone") throw new ForeshiftError("UNKNOWN_ENDPOINT", { value: name });
    return machine;
  }

  score(): Score {
    return {
      launches: this.#launches,
      terminated: this.#terminated,
      dropped: this.#dropped,
      adopted: Object.fromEntries(this.#adopted),
      applied: this.#applied,
      runningMachines: [...this.machines.values()].filter((one) => one.state === "running").map((one) => one.name),
    };
  }

  /** One call on a port, by name: `balancer.apply`, `agent.adopt` (with the endpoint first). What the RPC of a worker process uses. */
  async call(port: string, method: string, args: readonly unknown[]): Promise<unknown> {
    const target = port === "agent" ? this.agentOf(String(args[0])) : this.#port(port);
    const rest = port === "agent" ? args.slice(1) : args;
    const found: unknown = Reflect.get(target, method);
    if (typeof found !== "function") throw new Error(`no ${port}.${method}`);
    return await (Reflect.apply(found, target, rest) as Promise<unknown>);
  }

  #port(name: string): object {
    if (name === "balancer") return this.balancer;
    if (name === "hypervisor") return this.hypervisor;
    return this.store;
  }

  readonly balancer: Balancer = {
    desired: () => this.#read("balancer.desired", () => this.#reflex(() => this.steering)),
    apply: (request) =>
      this.#change("balancer.apply", request.operation, () =>
        this.#reflex(() => {
          const { operation: _, ...state } = request;
          const held = this.steering?.epoch ?? 0;
          if (state.epoch <= held) throw new ForeshiftError("STALE_EPOCH", { value: state.epoch, detail: `it holds ${held}` });
          this.steering = state;
          this.#applied += 1;
        }),
      ),
    health: () => this.#read("balancer.health", () => this.#reflex(() => this.#health())),
    sessions: () => this.#read("balancer.sessions", () => this.#reflex(() => this.#allSessions())),
    events: async ({ after, waitMs }) => {
      const found = this.#events.filter((event) => event.seq > after);
      if (found.length === 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      return this.#reflex(() => this.#events.filter((event) => event.seq > after));
    },
  };

  readonly hypervisor: Hypervisor = {
    capabilities: { suspend: true },
    list: (swarm) => this.#read("hypervisor.list", () => [...this.machines.values()].map((one) => asMachine(one, swarm))),
    launch: ({ operation, swarm, suspended }) =>
      this.#change("hypervisor.launch", operation, () => {
        this.#launches += 1;
        const name = `ep-${this.machines.size + 1}`;
        return asMachine(this.addMachine(name, suspended ? "suspended" : "running"), swarm);
      }),
    resume: ({ operation, name }) =>
      this.#change("hypervisor.resume", operation, () => {
        const machine = this.machine(name);
        machine.state = "running";
        return asMachine(machine, "lab");
      }),
    suspend: ({ operation, name }) =>
      this.#change("hypervisor.suspend", operation, () => {
        const machine = this.machine(name);
        machine.state = "suspended";
        return asMachine(machine, "lab");
      }),
    terminate: ({ operation, name }) =>
      this.#change("hypervisor.terminate", operation, () => {
        const machine = this.machines.get(name);
        if (machine === undefined || machine.state === "gone") return;
        machine.state = "gone";
        this.#terminated.push(name);
        for (const client of this.clients) if (client.endpoint === name) this.#drop(client);
      }),
    repair: ({ operation, name }) =>
      this.#change("hypervisor.repair", operation, () => {
        this.machine(name);
      }),
  };

  agentOf(name: string): EndpointAgent {
    return {
      status: () => this.#read("agent.status", () => this.#status(this.#reach(name))),
      sessions: () => this.#read("agent.sessions", () => this.#sessionsOf(this.#reach(name))),
      prepare: ({ operation, peers }) =>
        this.#change("agent.prepare", `${name}:${operation}`, () => {
          this.#reach(name).peers = peers.length;
        }),
      adopt: ({ operation, sessions }) =>
        this.#change("agent.adopt", `${name}:${operation}`, () => {
          const machine = this.#reach(name);
          for (const { publicKey } of sessions) this.#adopt(machine, publicKey);
        }),
      retire: ({ operation, publicKeys }) =>
        this.#change("agent.retire", `${name}:${operation}`, () => {
          const machine = this.#reach(name);
          for (const publicKey of publicKeys) {
            machine.keys.delete(publicKey);
            const client = this.clients.find((one) => one.publicKey === publicKey);
            if (client?.endpoint === name) this.#drop(client);
          }
        }),
      recover: ({ operation }) =>
        this.#change("agent.recover", `${name}:${operation}`, () => {
          const machine = this.#reach(name);
          machine.alive = true;
          machine.ejectedAtMs = undefined;
        }),
    };
  }

  readonly store: Store = {
    audit: (entry) => this.#read("store.audit", () => this.#stored(() => this.#writeAudit(entry))),
    auditTrail: ({ limit }) => this.#read("store.auditTrail", () => this.#stored(() => this.auditRows.slice(-limit))),
    stopSwitches: () => this.#read("store.stopSwitches", () => this.#stored(() => [...this.#switches.values()])),
    setStopSwitch: ({ scope, on, by, reason }) =>
      this.#read("store.setStopSwitch", () =>
        this.#stored(() => {
          if (!on) this.#switches.delete(scope);
          else if (!this.#switches.has(scope)) this.#switches.set(scope, { scope, by, reason, atMs: Date.now() });
        }),
      ),
    page: ({ operation, subject, text }) =>
      this.#read("store.page", () =>
        this.#stored(() => {
          if (!this.pages.some((page) => page.operation === operation)) this.pages.push({ operation, subject, text });
        }),
      ),
    saveSpec: (spec) => this.#read("store.saveSpec", () => this.#stored(() => void this.#specs.set(spec.name, spec))),
    specs: () => this.#read("store.specs", () => this.#stored(() => [...this.#specs.values()])),
    heartbeats: (swarm) => this.#read("store.heartbeats", () => this.#stored(() => this.#heartbeats(swarm))),
    telemetry: () => this.#read("store.telemetry", () => this.#stored(() => [])),
    outsideEvents: () => this.#read("store.outsideEvents", () => this.#stored(() => [])),
    peers: () => this.#read("store.peers", () => this.#stored(() => this.clients.map(asPeer))),
    sessions: () => this.#read("store.sessions", () => this.#stored(() => this.#allSessions())),
    close: () => Promise.resolve(),
  };

  /** A change has effect once for each operation, as every real driver promises; the answer is kept. */
  async #change<T>(call: string, operation: string, effect: () => T): Promise<T> {
    await this.intercept(call, operation, "before");
    const key = `${call} ${operation}`;
    if (!this.#done.has(key)) this.#done.set(key, effect());
    await this.intercept(call, operation, "after");
    return this.#done.get(key) as T;
  }

  async #read<T>(call: string, look: () => T): Promise<T> {
    await this.intercept(call, undefined, "before");
    return look();
  }

  #reflex<T>(look: () => T): T {
    if (this.reflexAnswers) return look();
    throw new ForeshiftError("UNREACHABLE", { field: "reflex", value: "the socket", detail: "nobody listens" });
  }

  #stored<T>(look: () => T): T {
    if (this.storeAnswers) return look();
    throw new ForeshiftError("UNREACHABLE", { field: "PostgreSQL", value: "the address", detail: "nobody listens" });
  }

  #reach(name: string): SimulatedMachine {
    const machine = this.machines.get(name);
    if (machine !== undefined && machine.state === "running" && machine.agentAnswers) return machine;
    throw new ForeshiftError("UNREACHABLE", { field: "agent", value: name, detail: "nobody listens" });
  }

  #adopt(machine: SimulatedMachine, publicKey: string): void {
    const client = this.clients.find((one) => one.publicKey === publicKey);
    if (client === undefined) return;
    const key = `${publicKey}>${machine.name}`;
    this.#adopted.set(key, (this.#adopted.get(key) ?? 0) + 1);
    const pin = this.steering?.pins.find((one) => one.client === client.outer);
    // The answer to a handshake goes where the client is pinned.
    if (!machine.alive || (pin !== undefined && pin.endpoint !== machine.name)) return;
    if (client.answersHandshakes) this.#shakeHands(client, machine);
  }

  #shakeHands(client: SimulatedClient, machine: SimulatedMachine | undefined): void {
    if (machine === undefined) return;
    machine.keys.set(client.publicKey, Date.now());
    client.endpoint = machine.name;
  }

  #drop(client: SimulatedClient): void {
    if (client.answersHandshakes) this.#dropped.push(client.publicKey);
    client.endpoint = undefined;
  }

  #status(machine: SimulatedMachine): AgentStatus {
    const { name: endpoint, alive: tunnelUp, keys } = machine;
    return { endpoint, tunnelUp, sessions: keys.size, clockMs: Date.now(), sessionsVersion: 0 };
  }

  #sessionsOf(machine: SimulatedMachine): readonly SessionState[] {
    return [...machine.keys].flatMap(([publicKey, lastHandshakeMs]) => {
      const client = this.clients.find((one) => one.publicKey === publicKey);
      if (client === undefined) return [];
      const elapsedMs = Date.now() - lastHandshakeMs;
      const sending = client.endpoint === machine.name && client.sendsTraffic;
      return [
        {
          ...asPeer(client),
          endpoint: machine.name,
          outerAddress: client.outer,
          lastHandshakeMs,
          rxBytes: RECEIVED_BYTES + (sending ? elapsedMs : 0),
          txBytes: 0,
          version: 1,
          updatedAtMs: Date.now(),
        },
      ];
    });
  }

  #allSessions(): readonly SessionState[] {
    return [...this.machines.values()].filter((one) => one.state === "running").flatMap((one) => this.#sessionsOf(one));
  }

  #health(): readonly MemberHealth[] {
    return (this.steering?.members ?? []).flatMap(({ endpoint, weight, draining }) => {
      const machine = this.machines.get(endpoint);
      const alive = machine !== undefined && machine.state === "running" && machine.alive;
      const answered = alive ? Math.round(30 * (1 - machine.loss)) : 0;
      const probes = {
        sent: 30,
        answered,
        missesInARow: alive ? 0 : 30,
        answersInARow: alive ? 30 : 0,
        rttMsP50: alive ? 1 : undefined,
        rttMsP75: alive ? 1 : undefined,
        rttMsMax: alive ? 2 : undefined,
        lastAnswerAtMs: alive ? Date.now() : undefined,
      };
      const ejectedAtMs = machine?.ejectedAtMs;
      return [
        {
          endpoint,
          weight,
          draining,
          effectiveWeight: weight,
          inner: probes,
          outer: { ...probes, answered: 30 },
          ejected: ejectedAtMs !== undefined,
          ejectedAtMs,
          ejections: machine?.ejections ?? 0,
          sessions: machine?.keys.size ?? 0,
        },
      ];
    });
  }

  #heartbeats(swarm: string): readonly Heartbeat[] {
    return [...this.machines.values()]
      .filter((machine) => machine.state === "running" && machine.agentAnswers)
      .map((machine) => ({
        swarm,
        endpoint: machine.name,
        atMs: Date.now(),
        sequence: 1,
        startedAtMs: machine.createdAtMs,
        cpuShare: 0.1,
        cpuPressure: 0,
        memoryShare: 0.1,
        tunnelUp: machine.alive,
        sessions: machine.keys.size,
        rxBytes: 0,
        txBytes: 0,
        rxDrops: 0,
        txDrops: 0,
      }));
  }

  #writeAudit(entry: AuditEntry): void {
    if (this.auditRows.some((row) => row.operation === entry.operation && row.action === entry.action)) return;
    this.auditRows.push({ ...entry, seq: this.auditRows.length + 1, atMs: Date.now() });
  }

  #event(kind: ReflexEvent["kind"], endpoint: string): void {
    const seq = this.#events.length + 1;
    this.#events.push({ seq, atMs: Date.now(), kind, endpoint, text: `${endpoint} ${kind}`, details: {} });
  }
}

function asMachine(machine: SimulatedMachine, swarm: string): Machine {
  const { name, state, createdAtMs } = machine;
  return { name, swarm, state, createdAtMs, link: linkTo(name) };
}

function asPeer(client: SimulatedClient): Peer {
  return { publicKey: client.publicKey, innerAddresses: [client.inner] };
}

export function linkTo(name: string): MemberLink {
  const number = Number(name.split("-")[1]);
  const mac = `02:00:00:00:00:${number.toString(16).padStart(2, "0")}`;
  return {
    device: name,
    mac,
    returnDevice: name,
    returnMac: mac,
    probeAddress: `198.18.32.${number}`,
    probeInnerAddress: `10.67.0.${number}`,
    agent: name,
  };
}

function emptySteering(spec: SwarmSpec): SteeringState {
  return {
    swarm: spec.name,
    epoch: 1,
    vip: spec.vip,
    algorithm: spec.algorithm,
    swarmPublicKey: spec.key.publicKey,
    members: [],
    pins: [],
    returnRoutes: [],
    outlier: spec.outlier,
  };
}
