/**
 * Keeps every session's shadow an endpoint that is there: when one comes or goes, its share of the sessions gets another.
 */
import type { Logger } from "pino";
import type { PostgresStore } from "../../drivers/store/store.ts";
import { messageOf } from "../../models/errors.ts";
import { shadowOf } from "../../models/shadow.ts";
import type { Telemetry } from "./telemetry.ts";

export class Shadows {
  readonly #store: PostgresStore;
  readonly #telemetry: Telemetry;
  readonly #log: Logger;
  /** Candidates for which all sessions of the swarm have their shadows, by swarm. */
  readonly #settled = new Map<string, string>();

  constructor(parts: { store: PostgresStore; telemetry: Telemetry; log: Logger }) {
    this.#store = parts.store;
    this.#telemetry = parts.telemetry;
    this.#log = parts.log;
  }

  /** To be called now and then; costs nothing while no endpoint comes or goes. */
  async check(): Promise<void> {
    for (const swarm of this.#telemetry.swarms()) {
      const candidates = [...this.#telemetry.candidates(swarm, Date.now())].sort();
      const name = candidates.join(" ");
      if (this.#settled.get(swarm) === name) continue;
      try {
        const changed = await this.#store.designateShadows(swarm, (publicKey, holder) =>
          shadowOf(publicKey, holder, candidates),
        );
        this.#settled.set(swarm, name);
        if (changed > 0) this.#log.info({ event: "shadows-named", swarm, candidates: candidates.length, sessions: changed });
      } catch (thrown) {
        this.#log.warn({ event: "shadows-not-named", swarm, detail: messageOf(thrown) });
      }
    }
  }
}
