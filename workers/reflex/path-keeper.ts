/** Keeps the packet path as the state says: tables, pins, fences and ways back. */
import type { Logger } from "pino";
import { messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import type { SteeringState } from "../../models/steering.ts";
import { canonicalAddress, type Dataplane } from "./dataplane.ts";
import type { SessionBook } from "./session-book.ts";
import type { ReflexState } from "./state.ts";
import type { Move } from "./takeover.ts";
import { bucketsFor, viewOf, weightsInForce } from "./view.ts";

/** Inner addresses of a session, and where it lives. */
export interface Placed {
  readonly innerAddresses: readonly string[];
  readonly endpoint: string;
}

export class PathKeeper {
  readonly #state: ReflexState;
  readonly #book: SessionBook;
  readonly #plane: Dataplane;
  readonly #log: Logger;
  /** The packet path may not be as it must be: the next look brings it there. */
  behind = false;

  constructor(options: { state: ReflexState; book: SessionBook; plane: Dataplane; log: Logger }) {
    this.#state = options.state;
    this.#book = options.book;
    this.#plane = options.plane;
    this.#log = options.log;
  }

  /** True when something had to change. */
  async push(): Promise<boolean> {
    const { desired } = this.#state;
    if (desired === undefined) return false;
    const view = viewOf(this.#state, desired);
    this.behind = true;
    const [steered, back] = await Promise.all([this.#plane.steer(view), this.#plane.giveBack(view)]);
    this.behind = false;
    return steered || back;
  }

  /** True when the table changed. */
  rebalance(): boolean {
    const { desired } = this.#state;
    if (desired === undefined) return false;
    const nowMs = Date.now();
    const buckets = bucketsFor(this.#state, desired, weightsInForce(this.#state, desired, nowMs), this.#book.counts(nowMs));
    const changed = buckets !== this.#state.buckets;
    this.#state.buckets = buckets;
    return changed;
  }

  /** Handshakes of sessions that are called elsewhere; what comes by the keys there are goes on as it did. */
  async pin(moves: readonly Move[]): Promise<void> {
    this.#setPins(moves);
    await this.push();
  }

  /** Pins and ways back of sessions that go elsewhere, and the fence, in one transaction each side. */
  async follow(moves: readonly Move[]): Promise<void> {
    this.#setPins(moves);
    const routes = this.#routesOf(moves.map(({ session, to }) => ({ ...session, endpoint: to })));
    const { desired } = this.#state;
    if (desired === undefined) return;
    const view = viewOf(this.#state, desired);
    const fenceAndRoute = async () => {
      await this.#plane.giveBack(view);
      await this.#plane.setRoutes(routes);
    };
    const results = await Promise.allSettled([this.#plane.steer(view), fenceAndRoute()]);
    for (const result of results) if (result.status === "rejected") this.failed("follow", result.reason);
  }

  /** Each session's way back leads to where it lives. */
  async routeTo(sessions: readonly Placed[]): Promise<void> {
    await this.#plane.setRoutes(this.#routesOf(sessions));
  }

  /** Explicit ways back that were not asked for before: those that were may have been overtaken by what was learned since. */
  async setNewRoutes(before: SteeringState | undefined, next: SteeringState): Promise<void> {
    const known = new Map(before?.returnRoutes.map((route) => [route.innerAddress, route.endpoint]));
    const added = next.returnRoutes.filter((route) => known.get(route.innerAddress) !== route.endpoint);
    await this.#plane.setRoutes(this.#routeMarks(added));
  }

  /** Ways back that are not there at all. */
  async setMissingRoutes(desired: SteeringState): Promise<void> {
    await this.#plane.setRoutes(this.#routeMarks(desired.returnRoutes), true);
  }

  /**
   * A pin that is no longer desired goes on until what was learned before it has expired: else the client's next handshake would go back
   * to where it came from. It leads to where the client's session lives by now.
   */
  keepRemovedPins(before: SteeringState | undefined, next: SteeringState): void {
    const atMs = Date.now();
    const still = new Set(next.pins.map((pin) => pin.client));
    const byClient = new Map([...this.#book.current(atMs).values()].map((session) => [session.outerAddress, session]));
    for (const { client, endpoint } of before?.pins ?? []) {
      if (still.has(client) || this.#state.pins.has(client)) continue;
      const session = byClient.get(client);
      const holder = session?.endpoint ?? endpoint;
      if (!this.#state.slots.has(holder)) continue;
      this.#state.pins.set(client, { client, endpoint: holder, publicKey: session?.publicKey ?? "", atMs });
    }
  }

  /** Pins that have outlived what they had to overrule. */
  dropPins(nowMs: number): boolean {
    const members = this.#state.slots;
    let dropped = false;
    for (const pin of this.#state.pins.values()) {
      if (nowMs - pin.atMs < LIMITS.reflex.pinAfterlifeMs && members.has(pin.endpoint)) continue;
      this.#state.pins.delete(pin.client);
      dropped = true;
    }
    return dropped;
  }

  failed(what: string, thrown: unknown): void {
    this.behind = true;
    this.#log.error({ event: "reflex-step-failed", what, detail: messageOf(thrown) });
  }

  #setPins(moves: readonly Move[]): void {
    const atMs = Date.now();
    for (const { session, to } of moves) {
      this.#state.pins.set(session.outerAddress, {
        client: session.outerAddress,
        endpoint: to,
        publicKey: session.publicKey,
        atMs,
      });
    }
  }

  #routesOf(sessions: readonly Placed[]): ReadonlyMap<string, number> {
    const routes = sessions.flatMap(({ innerAddresses, endpoint }) =>
      innerAddresses.map((innerAddress) => ({ innerAddress, endpoint })),
    );
    return this.#routeMarks(routes);
  }

  #routeMarks(routes: readonly { innerAddress: string; endpoint: string }[]): ReadonlyMap<string, number> {
    const marks = new Map<string, number>();
    for (const { innerAddress, endpoint } of routes) {
      const address = canonicalAddress(innerAddress.split("/")[0] ?? "");
      const mark = this.#state.slots.get(endpoint);
      if (address !== undefined && mark !== undefined && this.#state.record(endpoint).ejectedAtMs === undefined)
        marks.set(address, mark);
    }
    return marks;
  }
}
