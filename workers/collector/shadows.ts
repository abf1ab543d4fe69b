/**
 * Keeps every session's shadow an endpoint that is there: when one comes or goes, its share of the sessions gets another.
 */
import type { Logger } from "pino";
import type { PostgresStore } from "../../drivers/store/store.ts";
import { messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import { apartFrom, type ShadowCandidate, safeShadows, shadowOf } from "../../models/shadow.ts";
import type { SwarmSpec } from "../../models/swarm-spec.ts";
import type { Telemetry } from "./telemetry.ts";

/** Risks are read this often, and so many scores at most. */
const RISKS_READ_MS = LIMITS.foresight.scoreIntervalMsMin * 2;
const RISKS_READ = 10_000;

export class Shadows {
  readonly #store: PostgresStore;
  readonly #telemetry: Telemetry;
  readonly #log: Logger;
  /** Candidates for which all sessions of the swarm have their shadows, by swarm. */
  readonly #settled = new Map<string, string>();
  /** Endpoints that are passed over for their risk, by swarm; read anew now and then. */
  readonly #passedOver = new Map<string, ReadonlySet<string>>();
  /** Sessions that an endpoint of the swarm carries. */
  readonly #capacity = new Map<string, number>();
  #risksReadAtMs = Number.NEGATIVE_INFINITY;

  constructor(parts: { store: PostgresStore; telemetry: Telemetry; log: Logger }) {
    this.#store = parts.store;
    this.#telemetry = parts.telemetry;
    this.#log = parts.log;
  }

  /** To be called now and then; costs nothing while no endpoint comes or goes. */
  async check(): Promise<void> {
    const nowMs = Date.now();
    if (nowMs - this.#risksReadAtMs >= RISKS_READ_MS) await this.#readRisks(nowMs);
    for (const swarm of this.#telemetry.swarms()) {
      const candidates = [...this.candidates(swarm, nowMs)].sort();
      const name = candidates.join(" ");
      if (this.#settled.get(swarm) === name) continue;
      try {
        const changed = await this.#store.designateShadows(swarm, this.namer(swarm, candidates));
        this.#settled.set(swarm, name);
        if (changed > 0) this.#log.info({ event: "shadows-named", swarm, candidates: candidates.length, sessions: changed });
      } catch (thrown) {
        this.#log.warn({ event: "shadows-not-named", swarm, detail: messageOf(thrown) });
      }
    }
  }

  /** Names a session's shadow among these candidates: one that does not fail together with the holder, where there is one. */
  namer(swarm: string, candidates: readonly string[]): (publicKey: string, holder: string) => string | undefined {
    const places = this.#telemetry.places(swarm);
    const byHolder = new Map<string, readonly string[]>();
    return (publicKey, holder) => {
      const apart = byHolder.get(holder) ?? apartFrom(holder, candidates, places);
      byHolder.set(holder, apart);
      return shadowOf(publicKey, holder, apart);
    };
  }

  /** Endpoints that could take sessions over: heard, up, and not about to fail. */
  candidates(swarm: string, nowMs: number): readonly string[] {
    const passedOver = this.#passedOver.get(swarm);
    const heard = this.#telemetry.candidates(swarm, nowMs);
    return passedOver === undefined ? heard : heard.filter((endpoint) => !passedOver.has(endpoint));
  }

  /** The same, with where they are and the sessions that each has room for. */
  withRoom(swarm: string, nowMs: number): readonly ShadowCandidate[] {
    const places = this.#telemetry.places(swarm);
    const most = this.#capacity.get(swarm) ?? Number.MAX_SAFE_INTEGER;
    return this.candidates(swarm, nowMs).map((endpoint) => ({ endpoint, room: most, ...places.get(endpoint) }));
  }

  async #readRisks(nowMs: number): Promise<void> {
    this.#risksReadAtMs = nowMs;
    try {
      const specs = await this.#store.specs();
      for (const spec of specs) this.#capacity.set(spec.name, spec.endpoints.capacitySessions);
      for (const spec of specs) this.#passedOver.set(spec.name, await this.#risky(spec, nowMs));
    } catch (thrown) {
      // What was read last stands: without the database no shadow is named anew either.
      this.#log.debug({ event: "risks-not-read", detail: messageOf(thrown) });
    }
  }

  async #risky({ name: swarm, foresight }: SwarmSpec, nowMs: number): Promise<ReadonlySet<string>> {
    const heard = this.#telemetry.candidates(swarm, nowMs);
    if (foresight?.mode !== "act" || heard.length === 0) return new Set();
    const sinceMs = nowMs - foresight.scoreStaleMs;
    const scores = await this.#store.riskScores({ swarm, sinceMs, untilMs: nowMs, limit: RISKS_READ });
    const safe = new Set(safeShadows(heard, scores, foresight, nowMs));
    return new Set(heard.filter((endpoint) => !safe.has(endpoint)));
  }
}
