/** The agent of one machine of a world. */
import type { EndpointAgent } from "../../../drivers/ports.ts";
import { ForeshiftError } from "../../../models/errors.ts";
import { refName } from "../../../models/keys.ts";
import type { SessionState } from "../../../models/session.ts";
import type { SimulatedReflex } from "./balancer.ts";
import type { Calls } from "./calls.ts";
import { FILE_KEY, type Fleet, type SimulatedMachine } from "./fleet.ts";

export function simulatedAgent(name: string, fleet: Fleet, reflex: SimulatedReflex, calls: Calls): EndpointAgent {
  const reach = (): SimulatedMachine => {
    const machine = fleet.machines.get(name);
    if (machine?.state === "running" && machine.agentAnswers) return machine;
    throw new ForeshiftError("UNREACHABLE", { field: "agent", value: name, detail: "nobody listens" });
  };
  const change = (action: string, operation: string, effect: (machine: SimulatedMachine) => void) =>
    calls.change(`agent.${action}`, `${name}:${operation}`, () => effect(reach()));
  return {
    status: () =>
      calls.read("agent.status", () => {
        const { name: endpoint, alive: tunnelUp, keys } = reach();
        const identities = fleet.identitiesOr(FILE_KEY).map(({ secret }) => refName(secret));
        return { endpoint, tunnelUp, sessions: keys.size, clockMs: Date.now(), sessionsVersion: 0, identities };
      }),
    identitySessions: () =>
      calls.read("agent.identitySessions", () => {
        const sessions = fleet.sessionsOf(reach());
        return fleet.identitiesOr(FILE_KEY).map(({ publicKey: key, secret }) => ({
          identity: refName(secret),
          sessions: sessions.flatMap(({ lastHandshakeMs, publicKey, rxBytes }) => {
            const ways = fleet.client(publicKey)?.ways ?? [];
            if (!(ways.length === 0 ? FILE_KEY.publicKey === key : ways.includes(key))) return [];
            const sends = ways.length === 0 || ways[0] === key;
            return [{ publicKey, lastHandshakeMs, rxBytes: sends ? rxBytes : 0 }];
          }),
        }));
      }),
    sessions: () => calls.read("agent.sessions", () => fleet.shownBy(reach())),
    prepare: ({ operation, peers }) =>
      change("prepare", operation, (machine) => {
        machine.peers = peers.length;
        fleet.setKeys(machine, peers);
      }),
    adopt: ({ operation, sessions }) =>
      change("adopt", operation, (machine) => {
        assertClock(name, sessions);
        for (const session of sessions) call(machine, session, fleet, reflex);
      }),
    retire: ({ operation, publicKeys }) =>
      change("retire", operation, (machine) => {
        for (const publicKey of publicKeys) {
          machine.keys.delete(publicKey);
          const client = fleet.client(publicKey);
          if (client?.endpoint === name) fleet.drop(client);
        }
      }),
    loadKeys: ({ operation }) => change("loadKeys", operation, () => undefined),
    setKeys: ({ operation, peers }) => change("setKeys", operation, (machine) => fleet.setKeys(machine, peers)),
    revoke: ({ operation, peers }) =>
      change("revoke", operation, (machine) => {
        for (const { publicKey } of peers) machine.keys.delete(publicKey);
      }),
    ipsecSessions: () => calls.read("agent.ipsecSessions", () => fleet.ipsec.heldBy(reach())),
    adoptIpsec: async ({ operation, sessions }) => {
      await change("adoptIpsec", operation, (machine) =>
        fleet.ipsec.call(machine, operation, sessions, (client) => reflex.ipsecPinOf(client)),
      );
      return fleet.ipsec.outcomes(`${name}:${operation}`);
    },
    letGoIpsec: ({ operation, sessions }) => change("letGoIpsec", operation, (machine) => fleet.ipsec.letGo(machine, sessions)),
    recover: ({ operation, adopts }) =>
      change("recover", operation, (machine) => {
        machine.alive = true;
        machine.ejectedAtMs = undefined;
        machine.keys.clear();
        const stranded = fleet.clients.filter((client) => client.endpoint === name);
        if (adopts !== false) for (const client of stranded) fleet.shakeHands(client, machine);
      }),
  };
}

function assertClock(name: string, sessions: readonly SessionState[]): void {
  const newestMs = Math.max(0, ...sessions.map((session) => session.lastHandshakeMs));
  if (newestMs <= Date.now()) return;
  throw new ForeshiftError("CLOCK_BEHIND", { field: "endpoint", value: name, detail: "a handshake is in its future" });
}

/** A session that is here by a newer handshake is left alone; the answer to a handshake goes where the client is pinned. */
function call(machine: SimulatedMachine, session: SessionState, fleet: Fleet, reflex: SimulatedReflex): void {
  const client = fleet.client(session.publicKey);
  if (client === undefined || (machine.keys.get(session.publicKey) ?? 0) > session.lastHandshakeMs) return;
  const key = `${session.publicKey}>${machine.name}`;
  fleet.adopted.set(key, (fleet.adopted.get(key) ?? 0) + 1);
  const pin = reflex.pinOf(client.outer);
  if (!machine.alive || (pin !== undefined && pin !== machine.name)) return;
  if (client.answersHandshakes) fleet.shakeHands(client, machine);
}
