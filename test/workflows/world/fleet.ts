/**
 * Machines and clients of a world in memory, and who holds whose keys. It keeps score: which living session was dropped, which client
 * was called how often.
 */
import { ForeshiftError } from "../../../models/errors.ts";
import { type RevokedPeer, refName } from "../../../models/keys.ts";
import type { Peer, SecretRef, SessionState } from "../../../models/session.ts";
import { shadowOf } from "../../../models/shadow.ts";
import { firstIdentity, type StaticIdentity } from "../../../models/static-identities.ts";
import { SimulatedIpsec } from "./ipsec.ts";

export interface SimulatedMachine {
  readonly name: string;
  state: "running" | "suspended" | "gone";
  readonly createdAtMs: number;
  readonly image: string;
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
  /** Names of the preshared keys it has, by public key. */
  readonly presharedKeys: Map<string, string>;
}

export interface SimulatedClient {
  readonly publicKey: string;
  readonly inner: string;
  readonly outer: string;
  /** Whose keys it sends with. */
  endpoint: string | undefined;
  answersHandshakes: boolean;
  sendsTraffic: boolean;
  /** As the source of truth has it. */
  presharedKey: SecretRef | undefined;
  revision: number;
  /** Name of the preshared key that it has itself. */
  ownKey: string | undefined;
  /** The provisioner reaches it. */
  reachable: boolean;
  /** What it says that it took, it took. */
  honest: boolean;
  /** Static keys that it has a way to, by public key; the first is the one that it sends by. Empty: the swarm file's. */
  ways: string[];
}

const RECEIVED_BYTES = 1_000;
/** What specFor's swarm file states. */
export const FILE_KEY = { secret: { path: "swarms/lab/wireguard", version: 1 }, publicKey: `${"B".repeat(42)}A=` };

export class Fleet {
  readonly machines = new Map<string, SimulatedMachine>();
  readonly clients: SimulatedClient[] = [];
  readonly adopted = new Map<string, number>();
  readonly dropped: string[] = [];
  readonly terminated: string[] = [];
  readonly revoked: RevokedPeer[] = [];
  readonly ipsec = new SimulatedIpsec();
  /** Static keys that endpoints answer to, as the store has them; undefined: the swarm file's. */
  identities: readonly StaticIdentity[] | undefined;
  /** Handshakes that failed because the two sides had different preshared keys. */
  mismatches = 0;
  launches = 0;
  /** Nothing boots from it. */
  refusedImage: string | undefined;

  addMachine(name: string, state: "running" | "suspended", image = "image-1"): SimulatedMachine {
    const machine: SimulatedMachine = {
      name,
      state,
      createdAtMs: Date.now(),
      image,
      alive: true,
      agentAnswers: true,
      ejectedAtMs: undefined,
      ejections: 0,
      loss: 0,
      keys: new Map(),
      peers: 0,
      presharedKeys: new Map(),
    };
    this.machines.set(name, machine);
    return machine;
  }

  /** UNKNOWN_ENDPOINT unless there is such a machine. */
  machine(name: string): SimulatedMachine {
    const machine = this.machines.get(name);
    if (machine === undefined || machine.state === "gone") throw new ForeshiftError("UNKNOWN_ENDPOINT", { value: name });
    return machine;
  }

  running(): readonly SimulatedMachine[] {
    return [...this.machines.values()].filter((machine) => machine.state === "running");
  }

  /** Clients with a session on the endpoint. */
  connect(endpoint: string, count: number, traffic: boolean): void {
    for (let number = 0; number < count; number += 1) {
      const index = this.clients.length + 1;
      const client: SimulatedClient = {
        publicKey: `${"A".repeat(36)}${String(index).padStart(6, "0")}A=`,
        inner: `10.66.${Math.floor(index / 250)}.${index % 250}`,
        outer: `198.18.${100 + Math.floor(index / 250)}.${index % 250}:40000`,
        endpoint,
        answersHandshakes: true,
        sendsTraffic: traffic,
        presharedKey: undefined,
        revision: index,
        ownKey: undefined,
        reachable: true,
        honest: true,
        ways: [],
      };
      this.clients.push(client);
      this.machine(endpoint).keys.set(client.publicKey, Date.now());
    }
  }

  client(publicKey: string): SimulatedClient | undefined {
    return this.clients.find((client) => client.publicKey === publicKey);
  }

  shakeHands(client: SimulatedClient, machine: SimulatedMachine | undefined): void {
    if (machine === undefined) return;
    if (machine.presharedKeys.get(client.publicKey) !== client.ownKey) {
      this.mismatches += 1;
      return;
    }
    machine.keys.set(client.publicKey, Date.now());
    client.endpoint = machine.name;
  }

  /** The machine has these peers' preshared keys. */
  setKeys(machine: SimulatedMachine, peers: readonly Peer[]): void {
    for (const { publicKey, presharedKey } of peers) {
      if (presharedKey === undefined) machine.presharedKeys.delete(publicKey);
      else machine.presharedKeys.set(publicKey, refName(presharedKey));
    }
  }

  /** Its keys are gone where it sends to. */
  drop(client: SimulatedClient): void {
    if (client.answersHandshakes) this.dropped.push(client.publicKey);
    client.endpoint = undefined;
  }

  sessionsOf(machine: SimulatedMachine): readonly SessionState[] {
    const others = this.running().map((one) => one.name);
    return [...machine.keys].flatMap(([publicKey, lastHandshakeMs]) => {
      const client = this.client(publicKey);
      if (client === undefined) return [];
      const shadow = shadowOf(publicKey, machine.name, others);
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
          ...(shadow === undefined ? {} : { shadow }),
          version: 1,
          updatedAtMs: Date.now(),
        },
      ];
    });
  }

  /** Without sessions that have shaken hands elsewhere since: so an agent speaks of them once the source of truth has told it. */
  shownBy(machine: SimulatedMachine): readonly SessionState[] {
    const others = this.running();
    return this.sessionsOf(machine).filter(({ lastHandshakeMs, publicKey }) =>
      others.every(({ keys }) => (keys.get(publicKey) ?? 0) <= lastHandshakeMs),
    );
  }

  /** Public keys of the static keys that clients send by and that no endpoint answers to. */
  cutOff(): readonly string[] {
    const held = new Set(this.identitiesOr(FILE_KEY).map(({ publicKey }) => publicKey));
    return this.clients.flatMap(({ publicKey, ways: [way] }) => (way === undefined || held.has(way) ? [] : [publicKey]));
  }

  identitiesOr(key: Parameters<typeof firstIdentity>[0]): readonly StaticIdentity[] {
    return this.identities ?? [firstIdentity(key)];
  }

  /** Each client's session where its newest handshake was: what the balancer and the store know. */
  sessions(): readonly SessionState[] {
    const newest = new Map<string, SessionState>();
    for (const session of this.running().flatMap((machine) => this.sessionsOf(machine))) {
      const known = newest.get(session.publicKey);
      if (known === undefined || session.lastHandshakeMs >= known.lastHandshakeMs) newest.set(session.publicKey, session);
    }
    return [...newest.values()];
  }
}

export function asPeer(client: SimulatedClient): Peer {
  const { publicKey, inner, presharedKey } = client;
  return { publicKey, innerAddresses: [inner], ...(presharedKey === undefined ? {} : { presharedKey }) };
}
