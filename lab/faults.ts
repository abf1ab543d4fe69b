/**
 * Faults that one can inject into a machine by name, and take back. One fault a machine at a time.
 */
import type { Logger } from "pino";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import { Brownout } from "./build-up/brownout.ts";
import type { BuildUpOptions, FaultAtWork } from "./build-up/course.ts";
import { CpuSteal } from "./build-up/cpu-steal.ts";
import { GuestMemoryLeak } from "./build-up/guest-memory-leak.ts";
import { Incident } from "./build-up/incident.ts";
import { MemoryLeak } from "./build-up/memory-leak.ts";
import { risingLoss } from "./build-up/rising-loss.ts";
import {
  BUILD_UP_KINDS,
  type BuildUpKind,
  type Fault,
  type FaultKind,
  type FaultRequest,
  type SuddenKind,
} from "./lab-client.ts";
import type { Machines } from "./machines.ts";
import { movesPackets, runScript, signalHost } from "./namespace.ts";
import type { OutsideFeedFile } from "./outside-feed-file.ts";
import { setFarEnds, takeLinksDown } from "./topology.ts";

/** Faults that a repair from outside cures: the machine's processes go on, its links come up. */
const CURED_BY_REPAIR: readonly FaultKind[] = ["freeze", "partition"];
/** Over as soon as it has happened: what is left of it is for others to recover, and the next fault may come. */
const MOMENTARY: readonly FaultKind[] = ["crash"];
/** Kept going from outside the machine, and so to be ended with it. */
const GOES_ON_BY_ITSELF: readonly FaultKind[] = ["brownout", ...BUILD_UP_KINDS];

interface Active extends Fault {
  readonly atWork: FaultAtWork;
  readonly expiry: NodeJS.Timeout | undefined;
}

export interface FaultsOptions {
  readonly machines: Machines;
  readonly feed: OutsideFeedFile;
  readonly log: Logger;
}

export class Faults {
  readonly #options: FaultsOptions;
  readonly #active = new Map<string, Active>();

  constructor(options: FaultsOptions) {
    this.#options = options;
  }

  list(): readonly Fault[] {
    return [...this.#active.values()].map(({ expiry: _expiry, atWork: _atWork, ...fault }) => fault);
  }

  /** Injects a fault; it is taken back after `seconds` where they are given. */
  async inject(request: FaultRequest): Promise<Fault> {
    const { kind, endpoint, seconds } = request;
    const buildUpMs = buildUpMsOf(request);
    this.#checkFit(endpoint);
    const expiry =
      seconds === undefined ? undefined : setTimeout(() => void this.heal(endpoint).catch(this.#logFailure), seconds * 1_000);
    const atMs = Date.now();
    const fault: Fault = { kind, endpoint, atMs, ...(buildUpMs === undefined ? {} : { failsAtMs: atMs + buildUpMs }) };
    clearTimeout(this.#active.get(endpoint)?.expiry);
    const runInside = (script: string) => this.#inside(endpoint, script);
    // Noted before it takes effect, so that whoever ends the machine meanwhile also ends the fault.
    const atWork = isBuildUp(kind)
      ? this.#buildUps[kind]({ endpoint, runInside, buildUpMs: buildUpMs ?? 0, onFailure: this.#logFailure })
      : this.#sudden[kind](endpoint);
    this.#active.set(endpoint, { ...fault, atWork, expiry });
    try {
      await atWork.begun;
    } catch (thrown) {
      clearTimeout(expiry);
      this.#active.delete(endpoint);
      throw thrown;
    }
    this.#options.log.info({ event: "fault-injected", ...fault });
    return fault;
  }

  /** Takes a machine's fault back; a machine without one is a success. */
  async heal(endpoint: string): Promise<void> {
    this.#options.machines.get(endpoint);
    const active = this.#forget(endpoint);
    if (active === undefined) return;
    await active.atWork.stop();
    this.#options.log.info({ event: "fault-healed", kind: active.kind, endpoint });
  }

  /** The machine was repaired from outside. */
  async repaired(endpoint: string): Promise<void> {
    const active = this.#active.get(endpoint);
    if (active === undefined) return;
    if (CURED_BY_REPAIR.includes(active.kind)) this.#forget(endpoint);
    else active.atWork.repaired?.();
  }

  /** The machine is about to end. */
  async gone(endpoint: string): Promise<void> {
    const active = this.#forget(endpoint);
    if (active !== undefined && GOES_ON_BY_ITSELF.includes(active.kind)) await active.atWork.stop();
  }

  #checkFit(endpoint: string): void {
    const machine = this.#options.machines.get(endpoint);
    const present = this.#active.get(endpoint);
    const detail =
      machine.state !== "running"
        ? "the machine is suspended; resume it first"
        : present !== undefined && !MOMENTARY.includes(present.kind)
          ? `it has a ${present.kind} already; take that back first`
          : undefined;
    if (detail !== undefined) throw new ForeshiftError("INVALID_FIELD", { field: "endpoint", value: endpoint, detail });
  }

  readonly #buildUps: Readonly<Record<BuildUpKind, (options: BuildUpOptions) => FaultAtWork>> = {
    "rising-loss": risingLoss,
    "cpu-steal": (options) => new CpuSteal(options),
    "memory-leak": (options) => {
      const { machines } = this.#options;
      return machines.virtual(options.endpoint) === undefined
        ? new MemoryLeak(options, machines.memoryBytes)
        : new GuestMemoryLeak(options);
    },
    incident: (options) => {
      const zone = this.#options.machines.zoneOf(options.endpoint);
      return new Incident(options, { zone, feed: this.#options.feed });
    },
  };

  readonly #sudden: Readonly<Record<SuddenKind, (endpoint: string) => FaultAtWork>> = {
    brownout: (endpoint) => new Brownout(endpoint, (script) => this.#inside(endpoint, script), this.#logFailure),
    crash: (endpoint) => ({
      begun: this.#endWireguard(endpoint),
      stop: () => this.#askToRecover(endpoint),
    }),
    freeze: (endpoint) => ({
      begun: at(() => signalHost(endpoint, "SIGSTOP")),
      stop: () => at(() => signalHost(endpoint, "SIGCONT")),
    }),
    partition: (endpoint) => ({
      begun: this.#cutLinks(endpoint),
      stop: () => this.#options.machines.repairLinks(endpoint),
    }),
    zombie: (endpoint) => ({
      begun: this.#inside(endpoint, `nft -f - <<'END'\n${ZOMBIE_TABLE}\nEND`),
      stop: () => this.#inside(endpoint, "nft delete table inet foreshift_fault"),
    }),
    "heartbeat-loss": (endpoint) => ({
      begun: this.#options.machines.keepAgent(endpoint, false),
      stop: () => this.#options.machines.keepAgent(endpoint, true),
    }),
  };

  async #endWireguard(endpoint: string): Promise<void> {
    const virtual = this.#options.machines.virtual(endpoint);
    if (virtual === undefined) signalHost(endpoint, "SIGKILL", movesPackets);
    else await virtual.script("ip link del wg0");
  }

  async #cutLinks(endpoint: string): Promise<void> {
    if (this.#options.machines.virtual(endpoint) === undefined) await takeLinksDown(endpoint);
    else await setFarEnds(endpoint, "down");
  }

  async #inside(endpoint: string, script: string): Promise<void> {
    const virtual = this.#options.machines.virtual(endpoint);
    if (virtual === undefined) await runScript(script, endpoint);
    else await virtual.script(script);
  }

  async #askToRecover(endpoint: string): Promise<void> {
    const agent = this.#options.machines.agent(endpoint);
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

/** Something that takes effect at once, as a step that may fail. */
async function at(effect: () => unknown): Promise<void> {
  effect();
}

function isBuildUp(kind: FaultKind): kind is BuildUpKind {
  return BUILD_UP_KINDS.some((known) => known === kind);
}

/** Undefined of a fault that is there at once; INVALID_FIELD when such a one is asked to build up. */
function buildUpMsOf({ kind, buildUpSeconds }: FaultRequest): number | undefined {
  if (isBuildUp(kind)) return (buildUpSeconds ?? LIMITS.lab.buildUpSecondsDefault) * 1_000;
  if (buildUpSeconds === undefined) return undefined;
  const detail = `a ${kind} is there at once; those that build up are ${BUILD_UP_KINDS.join(", ")}`;
  throw new ForeshiftError("INVALID_FIELD", { field: "buildUpSeconds", value: buildUpSeconds, detail });
}
