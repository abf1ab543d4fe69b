/**
 * Growth of the load: sessions that join one after the other, as on a day on which more people log in than the swarm was made for.
 */
import type { Logger } from "pino";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import type { Clients } from "./clients.ts";
import type { GrowthBegun } from "./lab-client.ts";
import type { Machines } from "./machines.ts";
import type { Traffic } from "./traffic.ts";

export interface GrowthParts {
  readonly clients: Clients;
  readonly traffic: Traffic;
  readonly machines: Machines;
  readonly swarm: string;
  readonly log: Logger;
}

export class Growth {
  readonly #parts: GrowthParts;
  #isUnderWay = false;

  constructor(parts: GrowthParts) {
    this.#parts = parts;
  }

  /** INVALID_FIELD when there are not so many spare sessions, or they have joined already. */
  async begin({ sessions, seconds }: { sessions: number; seconds: number }): Promise<GrowthBegun> {
    const { clients, traffic, log } = this.#parts;
    const { spare } = clients;
    const joining = spare?.sessions.slice(0, sessions) ?? [];
    const detail = this.#isUnderWay
      ? "sessions have joined already; end that first"
      : joining.length < sessions
        ? `the lab was started with ${spare?.sessions.length ?? 0} spare sessions`
        : undefined;
    if (spare === undefined || detail !== undefined)
      throw new ForeshiftError("INVALID_FIELD", { field: "sessions", value: sessions, detail: detail ?? "there are none" });
    this.#isUnderWay = true;
    await clients.raiseSpare(sessions);
    const nowMs = Date.now();
    const beginsAtMs = joining.map((_, at) => nowMs + (seconds * 1_000 * (at + 1)) / sessions);
    traffic.join(
      spare,
      joining.map(({ index, innerAddress }, at) => ({ index, innerAddress, beginsAtMs: beginsAtMs[at] })),
    );
    log.info({ event: "growth-begun", sessions, seconds });
    return { beginsAtMs };
  }

  /** Neither the clients nor any machine know of the sessions afterwards. Without a growth under way a success. */
  async end(): Promise<void> {
    const { clients, traffic, log } = this.#parts;
    const { spare } = clients;
    if (spare === undefined || !this.#isUnderWay) return;
    // First, so that what the ending processes still have to say begins no session anew.
    await clients.lowerSpare();
    await traffic.leave(spare);
    await this.#retire(spare.sessions.map(({ peer }) => peer.publicKey));
    this.#isUnderWay = false;
    log.info({ event: "growth-ended" });
  }

  /** A machine that does not answer forgets them once their keys are dead. */
  async #retire(publicKeys: readonly string[]): Promise<void> {
    const { machines, swarm, log } = this.#parts;
    const running = machines.list(swarm).filter(({ state }) => state === "running");
    const retiring = running.map(async ({ name }) => {
      const agent = machines.agent(name);
      try {
        await agent.retire({ operation: `lab/growth/${name}/${Date.now()}`, publicKeys });
      } catch (thrown) {
        log.warn({ event: "growth-not-retired", machine: name, detail: messageOf(thrown) });
      } finally {
        await agent.close();
      }
    });
    await Promise.all(retiring);
  }
}
