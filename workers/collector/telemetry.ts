/**
 * Heartbeats as they come: cleaned, the latest of each endpoint and the last minutes at hand in memory, all of it on its way to the
 * database, and word to whoever waits when something changed that matters.
 */
import type { Logger } from "pino";
import type { PostgresStore } from "../../drivers/store/store.ts";
import type { StoredHeartbeat } from "../../drivers/store/telemetry.ts";
import { messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import type { Heartbeat } from "../../models/observation.ts";
import type { Place } from "../../models/shadow.ts";
import { type CleanState, cleanHeartbeat, TELEMETRY_FAULTS, type TelemetryFault } from "../../models/telemetry-clean.ts";
import { newsOf, type TelemetryNews, type Told } from "../../models/telemetry-news.ts";
import { LiveWindow } from "./live-window.ts";
import { Writer, type WriterCounts } from "./writer.ts";

export interface TelemetryCounts extends WriterCounts {
  readonly received: number;
  readonly restarts: number;
  readonly faults: Readonly<Record<TelemetryFault, number>>;
}

/** The other end of a path that an agent may measure. */
export interface OfferedPeer {
  readonly endpoint: string;
  readonly address: string;
}

interface Known {
  heartbeat: Heartbeat;
  receivedAtMs: number;
  /** Undefined of an endpoint that has not been heard since this process started. */
  clean: CleanState | undefined;
  told: Told | undefined;
}

export class Telemetry {
  readonly window = new LiveWindow();
  readonly #store: PostgresStore;
  readonly #log: Logger;
  readonly #known = new Map<string, Map<string, Known>>();
  readonly #loaded = new Set<string>();
  readonly #writer: Writer<StoredHeartbeat>;
  readonly #faults = new Map<TelemetryFault, number>(TELEMETRY_FAULTS.map((fault) => [fault, 0]));
  /** Endpoints that can be measured, in the order of a ring, by swarm. */
  readonly #ring = new Map<string, { readonly madeAtMs: number; readonly peers: readonly OfferedPeer[] }>();
  #received = 0;
  #restarts = 0;

  constructor(parts: { store: PostgresStore; log: Logger }) {
    this.#store = parts.store;
    this.#log = parts.log;
    this.#writer = new Writer({
      name: "telemetry",
      queuedMax: LIMITS.collector.heartbeatsQueuedMax,
      batchMax: LIMITS.collector.heartbeatBatchMax,
      flushMs: LIMITS.collector.heartbeatFlushMs,
      write: (batch) => this.#store.insertHeartbeats(batch),
      log: this.#log,
    });
  }

  counts(): TelemetryCounts {
    const faults = Object.fromEntries(this.#faults) as Record<TelemetryFault, number>;
    return { received: this.#received, restarts: this.#restarts, faults, ...this.#writer.counts() };
  }

  /** Answers why nothing of it counts; undefined when it was taken. */
  take(heartbeat: Heartbeat, receivedAtMs: number): TelemetryFault | undefined {
    this.#received += 1;
    const known = this.#remember(heartbeat, receivedAtMs);
    const { state, atMs, values, faults, restarted } = cleanHeartbeat(known.clean, heartbeat, receivedAtMs);
    known.clean = state;
    if (restarted) this.#restarts += 1;
    for (const fault of TELEMETRY_FAULTS) {
      const count = faults[fault];
      if (count !== undefined) this.#faults.set(fault, (this.#faults.get(fault) ?? 0) + count);
    }
    if (atMs === undefined) return faults.duplicate === undefined ? "late" : "duplicate";
    this.window.put(heartbeat.swarm, heartbeat.endpoint, atMs, values);
    // The values say it all; while the database is away there may be many of these.
    this.#writer.add([{ heartbeat: { ...heartbeat, sample: undefined }, atMs, receivedAtMs, values }]);
    const { told, news } = newsOf(known.told, heartbeat);
    known.told = told;
    if (news !== undefined) this.announce(news, heartbeat.swarm, heartbeat.endpoint);
    return undefined;
  }

  /** Latest of each endpoint; those from before this process started come from the database. */
  async latest(swarm: string): Promise<readonly Heartbeat[]> {
    if (!this.#loaded.has(swarm)) {
      for (const heartbeat of await this.#store.heartbeats(swarm)) this.#remember(heartbeat, heartbeat.atMs);
      this.#loaded.add(swarm);
    }
    return [...(this.#known.get(swarm)?.values() ?? [])].map(({ heartbeat }) => heartbeat);
  }

  swarms(): readonly string[] {
    return [...this.#known.keys()];
  }

  /** Endpoints that could take sessions over, as far as their heartbeats tell. */
  candidates(swarm: string, nowMs: number): readonly string[] {
    return this.#fit(swarm, nowMs).map(({ endpoint }) => endpoint);
  }

  /** Where endpoints are, as far as they say; of those that are silent, where they were. */
  places(swarm: string): ReadonlyMap<string, Place> {
    const known = [...(this.#known.get(swarm)?.values() ?? [])];
    return new Map(known.flatMap(({ heartbeat: { endpoint, place } }) => (place === undefined ? [] : [[endpoint, place]])));
  }

  /** Endpoints that one endpoint may measure the way to: those after it in a ring of all, so that every one is measured by some. */
  peersFor(swarm: string, endpoint: string, nowMs: number): readonly OfferedPeer[] {
    let ring = this.#ring.get(swarm);
    if (ring === undefined || nowMs - ring.madeAtMs >= LIMITS.collector.shadowCheckMs) {
      const peers = this.#fit(swarm, nowMs).flatMap(({ endpoint: name, probeAddress: address }) =>
        address === undefined ? [] : [{ endpoint: name, address }],
      );
      ring = { madeAtMs: nowMs, peers: peers.toSorted((one, other) => (one.endpoint < other.endpoint ? -1 : 1)) };
      this.#ring.set(swarm, ring);
    }
    const { peers } = ring;
    const after = peers.findIndex(({ endpoint: name }) => name > endpoint);
    const from = after < 0 ? 0 : after;
    const turned = [...peers.slice(from), ...peers.slice(0, from)].filter((peer) => peer.endpoint !== endpoint);
    return turned.slice(0, LIMITS.paths.peersOfferedMax);
  }

  /** Tells of endpoints that were heard and are not heard any more. */
  checkSilence(nowMs: number): void {
    for (const [swarm, endpoints] of this.#known) {
      for (const [endpoint, known] of endpoints) {
        if (known.told === undefined || known.told.silent) continue;
        if (nowMs - known.receivedAtMs < LIMITS.telemetry.wakeSilenceMs) continue;
        known.told = { ...known.told, silent: true };
        this.announce("silent", swarm, endpoint);
      }
    }
  }

  announce(what: TelemetryNews, swarm: string, endpoint?: string): void {
    this.#store.announceTelemetry({ swarm, endpoint, what }).catch((thrown: unknown) => {
      // Those who wait look for themselves before long.
      this.#log.debug({ event: "telemetry-not-announced", swarm, what, detail: messageOf(thrown) });
    });
  }

  /** Writes what is queued, once. */
  close(): Promise<void> {
    return this.#writer.close();
  }

  #fit(swarm: string, nowMs: number): readonly Heartbeat[] {
    const oldest = nowMs - LIMITS.collector.shadowHeartbeatAgeMsMax;
    const fit = [...(this.#known.get(swarm)?.values() ?? [])].filter(
      ({ heartbeat, receivedAtMs }) => heartbeat.tunnelUp && receivedAtMs >= oldest,
    );
    return fit.map(({ heartbeat }) => heartbeat);
  }

  #remember(heartbeat: Heartbeat, receivedAtMs: number): Known {
    const endpoints = this.#known.get(heartbeat.swarm) ?? new Map<string, Known>();
    this.#known.set(heartbeat.swarm, endpoints);
    const held = endpoints.get(heartbeat.endpoint);
    if (held === undefined) {
      const known = { heartbeat, receivedAtMs, clean: undefined, told: undefined };
      endpoints.set(heartbeat.endpoint, known);
      return known;
    }
    if (isNewer(heartbeat, held.heartbeat)) Object.assign(held, { heartbeat, receivedAtMs });
    return held;
  }
}

/** By the agent's life and its count of heartbeats: its clock may be set back. */
function isNewer(one: Heartbeat, other: Heartbeat): boolean {
  if (one.startedAtMs !== other.startedAtMs) return one.startedAtMs > other.startedAtMs;
  return one.sequence > other.sequence;
}
