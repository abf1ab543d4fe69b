/**
 * Faults that one can inject into a machine by name, and take back. One fault a machine at a time.
 */
import type { Logger } from "pino";
import { agentClient } from "../drivers/tunnel/agent-client.ts";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import type { Fault, FaultKind } from "./lab-client.ts";
import type { Machines } from "./machines.ts";
import { type HostProcess, runScript, signalHost } from "./namespace.ts";
import { bringLinksUp, takeLinksDown, type Vip } from "./topology.ts";

/** The squeeze of a brownout: WireGuard stands still for a growing part of each period. */
const BROWNOUT = {
  /** As the kernel's CPU quota has it by default. */
  periodMs: 100,
  stoppedShareFirst: 0.3,
  stoppedShareMax: 0.8,
  /** From the first share to the largest. */
  riseMs: 15_000,
  lossAfterMs: 10_000,
  lossPermilleFirst: 10,
  lossPermilleMax: 300,
  /** From the first loss to the largest. */
  lossRiseMs: 10_000,
  lossStepMs: 1_000,
} as const;

/** Faults that a repair from outside cures: the machine's processes go on, its links come up. */
const CURED_BY_REPAIR: readonly FaultKind[] = ["freeze", "partition"];
/** Over as soon as it has happened: what is left of it is for others to recover, and the next fault may come. */
const MOMENTARY: readonly FaultKind[] = ["crash"];

interface Active extends Fault {
  /** Undoes what can be undone. */
  readonly undo: () => Promise<void>;
  readonly expiry: NodeJS.Timeout | undefined;
}

export interface FaultsOptions {
  readonly machines: Machines;
  readonly vip: Vip;
  readonly log: Logger;
}

export class Faults {
  readonly #options: FaultsOptions;
  readonly #active = new Map<string, Active>();

  constructor(options: FaultsOptions) {
    this.#options = options;
  }

  list(): readonly Fault[] {
    return [...this.#active.values()].map(({ kind, endpoint, atMs }) => ({ kind, endpoint, atMs }));
  }

  /** Injects a fault; it is taken back after `seconds` where they are given. */
  async inject(request: { kind: FaultKind; endpoint: string; seconds?: number | undefined }): Promise<Fault> {
    const { kind, endpoint, seconds } = request;
    const machine = this.#options.machines.get(endpoint);
    if (machine.state !== "running") {
      const detail = "the machine is suspended; resume it first";
      throw new ForeshiftError("INVALID_FIELD", { field: "endpoint", value: endpoint, detail });
    }
    const present = this.#active.get(endpoint);
    if (present !== undefined && !MOMENTARY.includes(present.kind)) {
      const detail = `it has a ${present.kind} already; take that back first`;
      throw new ForeshiftError("INVALID_FIELD", { field: "endpoint", value: endpoint, detail });
    }
    const expiry =
      seconds === undefined ? undefined : setTimeout(() => void this.heal(endpoint).catch(this.#logFailure), seconds * 1_000);
    const fault: Fault = { kind, endpoint, atMs: Date.now() };
    clearTimeout(present?.expiry);
    // Noted before it takes effect, so that whoever ends the machine meanwhile also ends the fault.
    const effect = this.#effects[kind](endpoint);
    this.#active.set(endpoint, { ...fault, undo: effect.undo, expiry });
    try {
      await effect.begun;
    } catch (thrown) {
      clearTimeout(expiry);
      this.#active.delete(endpoint);
      throw thrown;
    }
    this.#options.log.info({ event: "fault-injected", kind, endpoint });
    return fault;
  }

  /** Takes a machine's fault back; a machine without one is a success. */
  async heal(endpoint: string): Promise<void> {
    this.#options.machines.get(endpoint);
    const active = this.#forget(endpoint);
    if (active === undefined) return;
    await active.undo();
    this.#options.log.info({ event: "fault-healed", kind: active.kind, endpoint });
  }

  /** The machine was repaired from outside. */
  async repaired(endpoint: string): Promise<void> {
    const active = this.#active.get(endpoint);
    if (active !== undefined && CURED_BY_REPAIR.includes(active.kind)) this.#forget(endpoint);
  }

  /** The machine is about to end. */
  async gone(endpoint: string): Promise<void> {
    const active = this.#forget(endpoint);
    if (active?.kind === "brownout") await active.undo();
  }

  readonly #effects: Readonly<Record<FaultKind, (endpoint: string) => { begun: Promise<void>; undo: () => Promise<void> }>> = {
    brownout: (endpoint) => {
      const brownout = new Brownout(endpoint, this.#logFailure);
      return { begun: Promise.resolve(), undo: () => brownout.stop() };
    },
    crash: (endpoint) => ({
      begun: at(() => signalHost(endpoint, "SIGKILL", isWireguard)),
      undo: () => this.#askToRecover(endpoint),
    }),
    freeze: (endpoint) => ({
      begun: at(() => signalHost(endpoint, "SIGSTOP")),
      undo: () => at(() => signalHost(endpoint, "SIGCONT")),
    }),
    partition: (endpoint) => ({
      begun: takeLinksDown(endpoint),
      undo: () => bringLinksUp(endpoint, this.#options.machines.numberOf(endpoint), this.#options.vip),
    }),
    zombie: (endpoint) => ({
      begun: runScript(`nft -f - <<'END'\n${ZOMBIE_TABLE}\nEND`, endpoint).then(() => undefined),
      undo: () => runScript("nft delete table inet foreshift_fault", endpoint).then(() => undefined),
    }),
    "heartbeat-loss": (endpoint) => ({
      begun: at(() => this.#options.machines.keepAgent(endpoint, false)),
      undo: () => at(() => this.#options.machines.keepAgent(endpoint, true)),
    }),
  };

  async #askToRecover(endpoint: string): Promise<void> {
    const agent = agentClient({ socketPath: this.#options.machines.agentSocket(endpoint) });
    try {
      await agent.recover({ operation: `lab/heal/${endpoint}/${Date.now()}` });
    } finally {
      await agent.close();
    }
  }

  #forget(endpoint: string): Active | undefined {
    const active = this.#active.get(endpoint);
    clearTimeout(active?.expiry);
    this.#active.delete(endpoint);
    return active;
  }

  readonly #logFailure = (thrown: unknown): void => {
    this.#options.log.error({ event: "fault-failed", detail: messageOf(thrown) });
  };
}

/** Answers outside, forwards nothing inside. */
const ZOMBIE_TABLE = `table inet foreshift_fault {
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "wg0" drop
    oifname "wg0" drop
  }
}`;

/** Delay that rises from the start, and loss that begins later and rises too. */
class Brownout {
  readonly #endpoint: string;
  readonly #startedAtMs = performance.now();
  readonly #onFailure: (thrown: unknown) => void;
  #timer: NodeJS.Timeout;
  readonly #lossTimer: NodeJS.Timeout;
  #lossChange: Promise<unknown> = Promise.resolve();
  #stopped = false;

  constructor(endpoint: string, onFailure: (thrown: unknown) => void) {
    this.#endpoint = endpoint;
    this.#onFailure = onFailure;
    this.#timer = setTimeout(() => this.#squeeze(), 0);
    this.#lossTimer = setInterval(() => this.#raiseLoss(), BROWNOUT.lossStepMs);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    clearInterval(this.#lossTimer);
    signalHost(this.#endpoint, "SIGCONT", isWireguard);
    await this.#lossChange;
    await runScript("nft delete table netdev foreshift_fault 2>/dev/null || true", this.#endpoint);
  }

  /** Stops WireGuard for its share of the period, then lets it run for the rest. */
  #squeeze(): void {
    const progress = Math.min(1, (performance.now() - this.#startedAtMs) / BROWNOUT.riseMs);
    const share = BROWNOUT.stoppedShareFirst + (BROWNOUT.stoppedShareMax - BROWNOUT.stoppedShareFirst) * progress;
    signalHost(this.#endpoint, "SIGSTOP", isWireguard);
    this.#timer = setTimeout(() => {
      signalHost(this.#endpoint, "SIGCONT", isWireguard);
      this.#timer = setTimeout(() => this.#squeeze(), BROWNOUT.periodMs * (1 - share));
    }, BROWNOUT.periodMs * share);
  }

  #raiseLoss(): void {
    const sinceMs = performance.now() - this.#startedAtMs - BROWNOUT.lossAfterMs;
    if (sinceMs < 0) return;
    const progress = Math.min(1, sinceMs / BROWNOUT.lossRiseMs);
    const range = BROWNOUT.lossPermilleMax - BROWNOUT.lossPermilleFirst;
    const permille = Math.round(BROWNOUT.lossPermilleFirst + range * progress);
    this.#lossChange = this.#lossChange
      .then(() => (this.#stopped ? undefined : runScript(`nft -f - <<'END'\n${lossTable(permille)}\nEND`, this.#endpoint)))
      .catch(this.#onFailure);
  }
}

/** Replaces the table in one transaction. */
function lossTable(permille: number): string {
  const chain = (device: string) => `chain ${device} {
    type filter hook ingress device "${device}" priority filter; policy accept;
    numgen random mod 1000 < ${permille} drop
  }`;
  return `table netdev foreshift_fault {
}
delete table netdev foreshift_fault
table netdev foreshift_fault {
  ${chain("lb0")}
  ${chain("in0")}
}`;
}

function isWireguard(found: HostProcess): boolean {
  return found.name === "wireguard-go";
}

/** Something that takes effect at once, as a step that may fail. */
async function at(effect: () => unknown): Promise<void> {
  effect();
}

/** Longest time that a fault may be asked to last. */
export const FAULT_SECONDS_MAX = LIMITS.lab.faultSecondsMax;
