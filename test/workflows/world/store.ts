/** The store of a world. */
import type { AuditEntry, AuditRow, StopSwitch, Store } from "../../../drivers/ports.ts";
import { ForeshiftError } from "../../../models/errors.ts";
import type { Heartbeat } from "../../../models/observation.ts";
import type { ScoredEndpoint } from "../../../models/risk.ts";
import type { Peer } from "../../../models/session.ts";
import type { SwarmSpec } from "../../../models/swarm-spec.ts";
import type { Calls } from "./calls.ts";
import { asPeer, type Fleet, type SimulatedClient, type SimulatedMachine } from "./fleet.ts";

export class SimulatedStore {
  answers = true;
  readonly auditRows: AuditRow[] = [];
  readonly riskScores: ScoredEndpoint[] = [];
  readonly pages: { operation: string; subject: string; text: string }[] = [];
  readonly #fleet: Fleet;
  readonly #calls: Calls;
  readonly #switches = new Map<string, StopSwitch>();
  readonly #specs = new Map<string, SwarmSpec>();
  readonly #revokedEndpoints = new Set<string>();
  #revision = 1_000;

  constructor(fleet: Fleet, calls: Calls) {
    this.#fleet = fleet;
    this.#calls = calls;
  }

  readonly port: Store = {
    audit: (entry) => this.#ask("audit", () => this.#writeAudit(entry), entry.operation),
    auditTrail: (query) => this.#ask("auditTrail", () => this.#readAudit(query)),
    stopSwitches: () => this.#ask("stopSwitches", () => [...this.#switches.values()]),
    setStopSwitch: ({ scope, on, by, reason }) =>
      this.#ask("setStopSwitch", () => {
        if (!on) this.#switches.delete(scope);
        else if (!this.#switches.has(scope)) this.#switches.set(scope, { scope, by, reason, atMs: Date.now() });
      }),
    page: ({ operation, subject, text }) =>
      this.#ask("page", () => {
        if (!this.pages.some((page) => page.operation === operation)) this.pages.push({ operation, subject, text });
      }),
    saveSpec: (spec) => this.#ask("saveSpec", () => void this.#specs.set(spec.name, spec)),
    specs: () => this.#ask("specs", () => [...this.#specs.values()].sort((a, b) => (a.name < b.name ? -1 : 1))),
    heartbeats: (swarm) =>
      this.#ask("heartbeats", () => {
        const talking = this.#fleet.running().filter((machine) => machine.agentAnswers);
        return talking.map((machine) => heartbeatOf(machine, swarm));
      }),
    telemetry: () => this.#ask("telemetry", () => []),
    saveRiskScores: (_, scores) => this.#ask("saveRiskScores", () => void this.riskScores.unshift(...scores)),
    riskScores: ({ endpoint, untilMs, limit }) =>
      this.#ask("riskScores", () =>
        this.riskScores.filter(({ score }) => score.endpoint === endpoint && score.atMs <= untilMs).slice(0, limit),
      ),
    // Without telemetry nothing is forecast.
    saveLoadForecasts: () => this.#ask("saveLoadForecasts", () => undefined),
    saveLoadOutcomes: () => this.#ask("saveLoadOutcomes", () => undefined),
    loadForecasts: () => this.#ask("loadForecasts", () => []),
    loadScores: () => this.#ask("loadScores", () => []),
    outsideEvents: () => this.#ask("outsideEvents", () => []),
    peers: () => this.#ask("peers", () => this.#present().map(withRevision)),
    rekeyPeers: ({ keys }) =>
      this.#ask("rekeyPeers", () => {
        const changed = keys.flatMap(({ publicKey, presharedKey }) => {
          const client = this.#present().find((one) => one.publicKey === publicKey);
          if (client === undefined) return [];
          this.#revision += 1;
          Object.assign(client, { presharedKey, revision: this.#revision });
          return [withRevision(client)];
        });
        return changed;
      }),
    revokePeers: ({ publicKeys }) =>
      this.#ask("revokePeers", () => {
        const { revoked } = this.#fleet;
        for (const publicKey of publicKeys) {
          this.#revision += 1;
          if (!revoked.some((one) => one.publicKey === publicKey)) revoked.push({ publicKey, revision: this.#revision });
        }
        return revoked.filter(({ publicKey }) => publicKeys.includes(publicKey));
      }),
    revokeEndpoint: ({ endpoint }) => this.#ask("revokeEndpoint", () => void this.#revokedEndpoints.add(endpoint)),
    revokedEndpoints: () => this.#ask("revokedEndpoints", () => [...this.#revokedEndpoints]),
    revokedPeers: () => this.#ask("revokedPeers", () => this.#fleet.revoked),
    identities: () => this.#ask("identities", () => this.#fleet.identities),
    stateIdentities: ({ identities }) =>
      this.#ask("stateIdentities", () => {
        this.#fleet.identities = identities;
      }),
    sessions: () => this.#ask("sessions", () => this.#fleet.sessions()),
    close: () => Promise.resolve(),
  };

  #present(): readonly SimulatedClient[] {
    const out = new Set(this.#fleet.revoked.map(({ publicKey }) => publicKey));
    return this.#fleet.clients.filter(({ publicKey }) => !out.has(publicKey));
  }

  #ask<T>(call: string, act: () => T, operation?: string): Promise<T> {
    const look = () => {
      if (this.answers) return act();
      throw new ForeshiftError("UNREACHABLE", { field: "PostgreSQL", value: "nowhere", detail: "it is away" });
    };
    return this.#calls.read(`store.${call}`, look, operation);
  }

  #writeAudit(entry: AuditEntry): void {
    if (this.auditRows.some((row) => row.operation === entry.operation && row.action === entry.action)) return;
    this.auditRows.push({ ...entry, seq: this.auditRows.length + 1, atMs: Date.now() });
  }

  #readAudit({ swarm, endpoint, workflowId, afterSeq, limit }: Parameters<Store["auditTrail"]>[0]): readonly AuditRow[] {
    const rows = this.auditRows.filter(
      (row) =>
        (swarm === undefined || row.swarm === swarm) &&
        (endpoint === undefined || row.endpoint === endpoint) &&
        (workflowId === undefined || row.workflowId === workflowId) &&
        row.seq > (afterSeq ?? 0),
    );
    return afterSeq === undefined ? rows.slice(-limit) : rows.slice(0, limit);
  }
}

function withRevision(client: SimulatedClient): Peer {
  return { ...asPeer(client), revision: client.revision };
}

function heartbeatOf(machine: SimulatedMachine, swarm: string): Heartbeat {
  return {
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
  };
}
