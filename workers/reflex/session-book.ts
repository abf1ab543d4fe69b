/** Which endpoint holds which client's session, as the agents say. Survives the agents, and on disk the reflex itself. */
import { z } from "zod";
import { LIMITS } from "../../models/limits.ts";
import { SessionState } from "../../models/session.ts";
import { shadowOf } from "../../models/shadow.ts";

export const SessionsFile = z.array(SessionState);

export class SessionBook {
  readonly #byEndpoint = new Map<string, ReadonlyMap<string, SessionState>>();
  /** Told of each session that an agent reports, and of those that live elsewhere than before. */
  onReport: ((session: SessionState) => void) | undefined;
  onMoved: ((sessions: readonly SessionState[]) => void) | undefined;
  /** Endpoint of each client's newest handshake, as it was last told. */
  readonly #told = new Map<string, string>();
  dirty = false;

  load(sessions: readonly SessionState[]): void {
    const byEndpoint = Map.groupBy(sessions, (session) => session.endpoint);
    for (const [endpoint, own] of byEndpoint) this.#set(endpoint, own);
  }

  /** All live sessions of one endpoint. */
  put(endpoint: string, sessions: readonly SessionState[]): void {
    const present = sessions.map((session) => ({ ...session, endpoint }));
    this.#set(endpoint, present);
    this.dirty = true;
    for (const session of present) this.onReport?.(session);
    const current = this.current(Date.now());
    const moved = [...current.values()].filter((session) => this.#told.get(session.publicKey) !== session.endpoint);
    for (const session of moved) this.#told.set(session.publicKey, session.endpoint);
    for (const publicKey of this.#told.keys()) if (!current.has(publicKey)) this.#told.delete(publicKey);
    if (moved.length > 0) this.onMoved?.(moved);
  }

  /** Endpoints that are not needed any more, beyond those that are members or may become some. */
  forgetBeyond(members: ReadonlySet<string>): void {
    const others = [...this.#byEndpoint.keys()].filter((endpoint) => !members.has(endpoint));
    for (const endpoint of others.slice(0, Math.max(0, others.length - LIMITS.members.countMax)))
      this.#byEndpoint.delete(endpoint);
  }

  forget(endpoint: string, publicKeys: ReadonlySet<string>): void {
    const own = this.#byEndpoint.get(endpoint);
    if (own === undefined) return;
    this.#byEndpoint.set(endpoint, new Map([...own].filter(([publicKey]) => !publicKeys.has(publicKey))));
    this.dirty = true;
  }

  /** One entry for each client: the endpoint with the newest handshake holds its keys. */
  current(nowMs: number): ReadonlyMap<string, SessionState> {
    const holders = new Map<string, SessionState>();
    for (const sessions of this.#byEndpoint.values()) {
      for (const session of sessions.values()) {
        if (nowMs - session.lastHandshakeMs > LIMITS.reflex.sessionTimeoutMs) continue;
        const known = holders.get(session.publicKey);
        if (known === undefined || session.lastHandshakeMs > known.lastHandshakeMs) holders.set(session.publicKey, session);
      }
    }
    return holders;
  }

  heldBy(endpoint: string, nowMs: number): readonly SessionState[] {
    return [...this.current(nowMs).values()].filter((session) => session.endpoint === endpoint);
  }

  /** Sessions by the endpoint that holds them. */
  counts(nowMs: number): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const { endpoint } of this.current(nowMs).values()) counts.set(endpoint, (counts.get(endpoint) ?? 0) + 1);
    return counts;
  }

  all(): readonly SessionState[] {
    return [...this.#byEndpoint.values()].flatMap((sessions) => [...sessions.values()]);
  }

  #set(endpoint: string, sessions: readonly SessionState[]): void {
    this.#byEndpoint.set(endpoint, new Map(sessions.map((session) => [session.publicKey, session])));
  }
}

/** The endpoint that takes the session over: the one designated before while it is fit for it, else one of those that are. */
export function designatedShadow(session: SessionState, fit: ReadonlySet<string>): string | undefined {
  if (session.shadow !== undefined && session.shadow !== session.endpoint && fit.has(session.shadow)) return session.shadow;
  return shadowOf(session.publicKey, session.endpoint, fit);
}
