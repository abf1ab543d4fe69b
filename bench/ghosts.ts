/**
 * How fast an endpoint is there when it is asked for: one that runs and is only joined, one that was suspended, and one that has to be
 * launched, in one run. From the claim until it has its weight; what the workflow does, done here without it.
 */

import { dialAgent } from "../drivers/identity/dial.ts";
import type { Machine } from "../drivers/ports.ts";
import { accelerator } from "../drivers/qemu/accelerator.ts";
import { agentClient } from "../drivers/tunnel/agent-client.ts";
import { until } from "../lab/await.ts";
import { imageFor, type LabHypervisor } from "../lab/machine-image.ts";
import { quantile } from "../lab/measure.ts";
import type { OpenLab } from "../lab/open-lab.ts";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import type { Member } from "../models/steering.ts";
import { machine, withLab } from "./with-lab.ts";

export interface GhostsOptions {
  readonly hypervisor: LabHypervisor;
  /** Claims of a machine that runs, and as many of one that is suspended. */
  readonly trials: number;
  /** Launches of a machine that there is not. */
  readonly coldTrials: number;
  readonly onProgress: (text: string) => void;
}

export interface ClaimFigures {
  readonly trials: number;
  readonly msP50: number | undefined;
  readonly msP95: number | undefined;
  readonly msMax: number | undefined;
}

export interface GhostsFigures {
  readonly machine: ReturnType<typeof machine>;
  readonly hypervisor: LabHypervisor;
  /** Of virtual machines. */
  readonly accelerator: "kvm" | "tcg" | undefined;
  readonly running: ClaimFigures;
  readonly suspended: ClaimFigures;
  readonly cold: ClaimFigures;
}

const SIZE = { clients: 2, sessions: 2, endpoints: 2, ghosts: 1, packetsPerSecond: 20 } as const;

export async function benchGhosts(options: GhostsOptions): Promise<GhostsFigures> {
  const { hypervisor, trials, coldTrials, onProgress } = options;
  const image = await imageFor(hypervisor, onProgress);
  return await withLab({ ...SIZE, image, spec: { foresight: { mode: "off" } }, onProgress }, async ({ open }) => {
    // What is there is the bench's to claim and to let go.
    await open.store.setStopSwitch({ scope: open.swarm, on: true, by: "bench", reason: "ghosts are measured" });
    const claims = new Claims(open);
    const ghost = (await open.hypervisor.list(open.swarm)).find(({ state }) => state === "suspended");
    if (ghost === undefined) throw new ForeshiftError("NOT_READY", { value: "the bench", detail: "no ghost is there" });
    const [running, suspended, cold]: [number[], number[], number[]] = [[], [], []];
    for (let trial = 1; trial <= trials; trial += 1) {
      suspended.push(await claims.claim(() => open.hypervisor.resume({ operation: `bench/wake/${trial}`, name: ghost.name })));
      await claims.release(ghost);
      running.push(await claims.claim(async () => ghost));
      await claims.release(ghost);
      await open.hypervisor.suspend({ operation: `bench/sleep/${trial}`, name: ghost.name });
      onProgress(`claim ${trial} of ${trials}: suspended ${shown(suspended)}, running ${shown(running)}`);
    }
    for (let trial = 1; trial <= coldTrials; trial += 1) {
      let launched: Machine = ghost;
      const launch = { operation: `bench/launch/${trial}`, swarm: open.swarm, suspended: false };
      cold.push(await claims.claim(async () => (launched = await open.hypervisor.launch(launch))));
      await claims.release(launched);
      await open.hypervisor.terminate({ operation: `bench/end/${trial}`, name: launched.name });
      onProgress(`cold launch ${trial} of ${coldTrials}: ${shown(cold)}`);
    }
    return {
      machine: machine(),
      hypervisor,
      accelerator: image === undefined ? undefined : await accelerator(image),
      running: figures(running),
      suspended: figures(suspended),
      cold: figures(cold),
    };
  });
}

class Claims {
  readonly #open: OpenLab;
  #count = 0;

  constructor(open: OpenLab) {
    this.#open = open;
  }

  /** Milliseconds until the machine that `obtain` answers serves: it answers through its tunnel, knows every client, has its weight. */
  async claim(obtain: () => Promise<Machine>): Promise<number> {
    const { balancer, store, swarm, identity } = this.#open;
    const startedAtMs = performance.now();
    const { name, link } = await obtain();
    await this.#change((members) => [...members, { endpoint: name, weight: 0, draining: false, link }]);
    await until(
      async () => {
        const { inner } = (await balancer.health()).find(({ endpoint }) => endpoint === name) ?? {};
        return (inner?.answersInARow ?? 0) >= LIMITS.control.preflightAnswersMin ? true : undefined;
      },
      { what: name, timeoutMs: LIMITS.control.preflightTimeoutMs, pollMs: LIMITS.control.probePollMs },
    );
    const dial = identity === undefined ? undefined : dialAgent(identity, name);
    const agent = agentClient({ socketPath: link.agent, dial });
    try {
      await agent.prepare({ operation: this.#operation(), peers: await store.peers(swarm) });
    } finally {
      await agent.close();
    }
    await this.#change((members) => members.map((one) => (one.endpoint === name ? { ...one, weight: 100 } : one)));
    return performance.now() - startedAtMs;
  }

  async release({ name }: Machine): Promise<void> {
    await this.#change((members) => members.filter(({ endpoint }) => endpoint !== name));
  }

  async #change(members: (before: readonly Member[]) => readonly Member[]): Promise<void> {
    const desired = await this.#open.balancer.desired();
    if (desired === undefined) throw new ForeshiftError("NOT_READY", { value: "the balancer", detail: "it has no table" });
    const next = { ...desired, epoch: desired.epoch + 1, members: [...members(desired.members)] };
    await this.#open.balancer.apply({ ...next, operation: this.#operation() });
  }

  #operation(): string {
    this.#count += 1;
    return `bench/ghosts/${this.#count}`;
  }
}

function figures(values: readonly number[]): ClaimFigures {
  const of = (share: number) => quantile(values, share);
  return { trials: values.length, msP50: of(0.5), msP95: of(0.95), msMax: of(1) };
}

function shown(values: readonly number[]): string {
  return `${Math.round(values.at(-1) ?? 0)} ms`;
}
