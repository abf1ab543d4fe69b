/** The reflex of a world: the desired state with its epoch, health of the members, events. */
import type { Balancer } from "../../../drivers/ports.ts";
import { ForeshiftError } from "../../../models/errors.ts";
import { parseInput } from "../../../models/parse.ts";
import { type MemberHealth, type ReflexEvent, SteeringState } from "../../../models/steering.ts";
import { checkSteering } from "../../../workers/reflex/check-steering.ts";
import type { Calls } from "./calls.ts";
import type { Fleet, SimulatedMachine } from "./fleet.ts";

const PROBES = 30;

export class SimulatedReflex {
  steering: SteeringState | undefined;
  answers = true;
  applied = 0;
  readonly #fleet: Fleet;
  readonly #calls: Calls;
  readonly #events: ReflexEvent[] = [];

  constructor(fleet: Fleet, calls: Calls) {
    this.#fleet = fleet;
    this.#calls = calls;
  }

  readonly port: Balancer = {
    desired: () => this.#read("desired", () => this.steering),
    apply: ({ operation, ...state }) =>
      this.#calls.change("balancer.apply", operation, () => this.#whileUp(() => this.#take(state))),
    health: () => this.#read("health", () => this.#health()),
    sessions: () => this.#read("sessions", () => this.#fleet.sessions()),
    events: async ({ after, waitMs }) => {
      const found = () => this.#events.filter((event) => event.seq > after);
      if (found().length === 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      return this.#whileUp(found);
    },
  };

  isMember(name: string): boolean {
    return this.steering?.members.some((member) => member.endpoint === name) ?? false;
  }

  /** Where the handshakes of a client go that is pinned. */
  pinOf(client: string): string | undefined {
    return this.steering?.pins.find((pin) => pin.client === client)?.endpoint;
  }

  /** Where a client's new IKE SAs go, and what it sends by them before anybody has told the balancer. */
  ipsecPinOf(client: string): string | undefined {
    return this.steering?.ipsecPins?.find((pin) => pin.client === client)?.endpoint;
  }

  event(kind: ReflexEvent["kind"], endpoint: string | undefined): void {
    const seq = this.#events.length + 1;
    this.#events.push({ seq, atMs: Date.now(), kind, endpoint, text: `${endpoint ?? "all"} ${kind}`, details: {} });
  }

  #take(wanted: SteeringState): void {
    const state = parseInput(SteeringState, wanted, "desired state");
    checkSteering(state);
    const held = this.steering?.epoch ?? 0;
    if (state.epoch <= held) throw new ForeshiftError("STALE_EPOCH", { value: state.epoch, detail: `it holds ${held}` });
    const [heir] = state.members;
    for (const { endpoint } of this.steering?.members ?? [])
      if (heir !== undefined && state.members.every((member) => member.endpoint !== endpoint))
        this.#fleet.ipsec.leave(endpoint, heir.endpoint);
    this.steering = state;
    this.applied += 1;
    for (const name of state.revoked ?? []) this.#expel(name);
    this.event("desired-applied", undefined);
  }

  #expel(name: string): void {
    const machine = this.#fleet.machines.get(name);
    if (!this.isMember(name) || machine === undefined || machine.ejectedAtMs !== undefined) return;
    machine.ejectedAtMs = Date.now();
    machine.ejections += 1;
    const other = this.#fleet.running().find((one) => one !== machine && this.isMember(one.name) && one.alive);
    for (const client of this.#fleet.clients) if (client.endpoint === name) this.#fleet.shakeHands(client, other);
    this.event("ejected", name);
  }

  #read<T>(call: string, look: () => T): Promise<T> {
    return this.#calls.read(`balancer.${call}`, () => this.#whileUp(look));
  }

  #whileUp<T>(act: () => T): T {
    if (this.answers) return act();
    throw new ForeshiftError("UNREACHABLE", { field: "reflex", value: "reflex.sock", detail: "nobody listens" });
  }

  #health(): readonly MemberHealth[] {
    const held = Map.groupBy(this.#fleet.sessions(), (session) => session.endpoint);
    return (this.steering?.members ?? []).map(({ endpoint, weight, draining }) => {
      const machine = this.#fleet.machines.get(endpoint);
      const inner = probesOf(machine);
      const ejectedAtMs = machine?.ejectedAtMs;
      return {
        endpoint,
        weight,
        draining,
        effectiveWeight: weight,
        inner,
        outer: { ...inner, answered: PROBES },
        ejected: ejectedAtMs !== undefined,
        ejectedAtMs,
        ejections: machine?.ejections ?? 0,
        sessions: held.get(endpoint)?.length ?? 0,
        ipsecSessions: machine === undefined ? undefined : this.#fleet.ipsec.heldBy(machine)?.length,
      };
    });
  }
}

function probesOf(machine: SimulatedMachine | undefined): MemberHealth["inner"] {
  const alive = machine !== undefined && machine.state === "running" && machine.alive;
  return {
    sent: PROBES,
    answered: alive ? Math.round(PROBES * (1 - machine.loss)) : 0,
    missesInARow: alive ? 0 : PROBES,
    answersInARow: alive ? PROBES : 0,
    rttMsP50: alive ? 1 : undefined,
    rttMsP75: alive ? 1 : undefined,
    rttMsMax: alive ? 2 : undefined,
    lastAnswerAtMs: alive ? Date.now() : undefined,
  };
}
