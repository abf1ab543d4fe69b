/**
 * A world in memory behind the ports, for faults that cannot be produced on command in the real one: any call can be made to fail or to
 * kill its caller, before or after it took effect. Its parts pass the contract tests of the real drivers (world-contracts.test.ts).
 */
import type {
  AgentLogins,
  CertificateHolders,
  Certificates,
  ClientProvisioner,
  KeyVault,
  PayloadKeys,
} from "../../drivers/key-ports.ts";
import type { AuditRow, Balancer, EndpointAgent, Hypervisor, Store, Telemetry } from "../../drivers/ports.ts";
import type { SteeringState } from "../../models/steering.ts";
import type { SwarmSpec } from "../../models/swarm-spec.ts";
import { simulatedAgent } from "./world/agent.ts";
import { SimulatedReflex } from "./world/balancer.ts";
import { Calls, type Interceptor } from "./world/calls.ts";
import { Fleet, type SimulatedClient, type SimulatedMachine } from "./world/fleet.ts";
import { linkTo, simulatedHypervisor } from "./world/hypervisor.ts";
import type { SimulatedIpsec, SimulatedIpsecClient } from "./world/ipsec.ts";
import { SimulatedKeys } from "./world/keys.ts";
import { SimulatedStore } from "./world/store.ts";
import { SimulatedTelemetry } from "./world/telemetry.ts";

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

export class World {
  readonly #calls = new Calls();
  readonly #fleet = new Fleet();
  readonly #reflex = new SimulatedReflex(this.#fleet, this.#calls);
  readonly #store = new SimulatedStore(this.#fleet, this.#calls);
  readonly balancer: Balancer = this.#reflex.port;
  readonly hypervisor: Hypervisor = simulatedHypervisor(this.#fleet, this.#calls);
  readonly store: Store = this.#store.port;
  readonly #telemetry = new SimulatedTelemetry(this.#calls);
  readonly telemetry: Telemetry = this.#telemetry.port;
  readonly #keys = new SimulatedKeys(this.#fleet, this.#calls);
  readonly keyVault: KeyVault = this.#keys.vault;
  readonly provisioner: ClientProvisioner = this.#keys.provisioner;
  readonly certificates: Certificates = this.#keys.certificates;
  readonly agentLogins: AgentLogins = this.#keys.agentLogins;
  readonly payloadKeys: PayloadKeys = this.#keys.payloadKeys;
  readonly holders: CertificateHolders = this.#keys.holders;

  agentOf(name: string): EndpointAgent {
    return simulatedAgent(name, this.#fleet, this.#reflex, this.#calls);
  }

  set intercept(interceptor: Interceptor) {
    this.#calls.intercept = interceptor;
  }

  get machines(): ReadonlyMap<string, SimulatedMachine> {
    return this.#fleet.machines;
  }

  get clients(): readonly SimulatedClient[] {
    return this.#fleet.clients;
  }

  get steering(): SteeringState | undefined {
    return this.#reflex.steering;
  }

  get auditRows(): readonly AuditRow[] {
    return this.#store.auditRows;
  }

  get pages(): SimulatedStore["pages"] {
    return this.#store.pages;
  }

  /** Versions of each path that were written, and those that are destroyed. */
  get keyVersions(): SimulatedKeys["versions"] {
    return this.#keys.versions;
  }

  get revokedSerials(): ReadonlySet<string> {
    return this.#keys.revokedSerials;
  }

  /** Endpoints whose agents log in at Vault no more. */
  get endedLogins(): ReadonlySet<string> {
    return this.#keys.endedLogins;
  }

  /** Serials of the processes' certificates, and how some of them misbehave. */
  get certificatesHeld(): Pick<SimulatedKeys, "serials" | "clinging" | "unreachable"> {
    return this.#keys;
  }

  /** Of the transit key: by which version each data key is wrapped, and the oldest that opens anything. */
  get transit(): { readonly wraps: readonly number[]; readonly oldestReadable: number } {
    const { oldestReadable, wraps } = this.#keys;
    return { wraps, oldestReadable };
  }

  /** Static keys that endpoints answer to; undefined: the swarm file's. */
  get identities(): Fleet["identities"] {
    return this.#fleet.identities;
  }

  /** Clients that send by a static key which no endpoint answers to. */
  get cutOff(): readonly string[] {
    return this.#fleet.cutOff();
  }

  /** Handshakes that failed because the sides had different preshared keys. */
  get mismatches(): number {
    return this.#fleet.mismatches;
  }

  set refuseImage(image: string) {
    this.#fleet.refusedImage = image;
  }

  /** Every client shakes hands with the endpoint that it sends to, as WireGuard does every two minutes. */
  rekeyAll(): void {
    for (const client of this.clients)
      if (client.endpoint !== undefined) this.#fleet.shakeHands(client, this.machine(client.endpoint));
  }

  /** Series of an endpoint: the value so many seconds ago. */
  measure(endpoint: string, series: Readonly<Record<string, (secondsAgo: number) => number>>): void {
    this.#telemetry.series.set(endpoint, series);
  }

  /** A machine that runs, a member of the balancer with this weight. */
  addMember(name: string, spec: SwarmSpec, weight = 100): void {
    this.addMachine(name, "running");
    const member = { endpoint: name, weight, draining: false, link: linkTo(name) };
    const held = this.#reflex.steering ?? emptySteering(spec);
    this.#reflex.steering = { ...held, epoch: held.epoch + 1, members: [...held.members, member] };
  }

  addMachine(name: string, state: "running" | "suspended"): SimulatedMachine {
    return this.#fleet.addMachine(name, state);
  }

  /** Clients with a session on the endpoint. */
  connect(endpoint: string, count: number, traffic = true): void {
    this.#fleet.connect(endpoint, count, traffic);
  }

  /** Clients with an IPsec session on the endpoint; from here on every machine is an IPsec gateway. */
  connectIpsec(endpoint: string, count: number): readonly SimulatedIpsecClient[] {
    return this.#fleet.ipsec.connect(this.machine(endpoint), count);
  }

  get ipsec(): SimulatedIpsec {
    return this.#fleet.ipsec;
  }

  machine(name: string): SimulatedMachine {
    return this.#fleet.machine(name);
  }

  /** The endpoint dies and the reflex ejects it. Where takeover is on, its sessions live on other members at once. */
  crash(name: string): void {
    const machine = this.machine(name);
    machine.alive = false;
    machine.agentAnswers = false;
    machine.ejectedAtMs = Date.now();
    machine.ejections += 1;
    this.#reflex.event("ejected", name);
    if (this.steering?.outlier.takeover !== false) this.clientsFindOut(name);
  }

  /** The clients of a dead endpoint shake hands with another member. */
  clientsFindOut(name: string): void {
    const other = this.#fleet.running().find((one) => one.name !== name && this.#reflex.isMember(one.name) && one.alive);
    for (const client of this.clients) if (client.endpoint === name) this.#fleet.shakeHands(client, other);
  }

  score(): Score {
    const { launches, terminated, dropped, adopted } = this.#fleet;
    const runningMachines = this.#fleet.running().map((machine) => machine.name);
    return {
      launches,
      terminated,
      dropped,
      adopted: Object.fromEntries(adopted),
      applied: this.#reflex.applied,
      runningMachines,
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
    if (name === "telemetry") return this.telemetry;
    if (name === "keyVault") return this.keyVault;
    if (name === "provisioner") return this.provisioner;
    if (name === "certificates") return this.certificates;
    if (name === "agentLogins") return this.agentLogins;
    if (name === "payloadKeys") return this.payloadKeys;
    return this.store;
  }
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
