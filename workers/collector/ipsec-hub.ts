/**
 * IPsec sessions on their way from the endpoints that hold them to those that shadow them. In memory alone: a copy is of use for seconds, and
 * whoever holds the session tells it again when it is asked for. Keys are sealed, and by a key that this process may not use.
 */
import type { Writable } from "node:stream";
import type { Logger } from "pino";
import { ForeshiftError } from "../../models/errors.ts";
import { applyCopy, applyDelta, type IpsecSession, sessionId } from "../../models/ipsec/state.ts";
import type { IpsecLine, IpsecTaken, IpsecWord, NamedDelta } from "../../models/ipsec/wire.ts";
import { LIMITS } from "../../models/limits.ts";
import { IPSEC_LIMITS } from "../../models/limits-ipsec.ts";
import { reserveShadows, type ShadowCandidate } from "../../models/shadow.ts";

interface Kept {
  session: IpsecSession;
  sentAtMs: number;
}

/** Endpoints that may shadow, with what they have room for beside their own. */
export type Candidates = (swarm: string) => readonly ShadowCandidate[];

export class IpsecHub {
  readonly #candidates: Candidates;
  readonly #log: Logger;
  /** By swarm and holder, then by session. */
  readonly #held = new Map<string, Map<string, Kept>>();
  /** By swarm and shadow: where its lines go. */
  readonly #out = new Map<string, Set<Writable>>();
  /** Grows when any session gets another shadow; above any that a process before this one has given out. */
  #shadowsVersion: number = Date.now();

  constructor(parts: { candidates: Candidates; log: Logger }) {
    this.#candidates = parts.candidates;
    this.#log = parts.log;
  }

  /** `known`: the version of the shadows that the endpoint has. TOO_MANY when the swarm has more sessions than may be. */
  take({ swarm, endpoint, sentAtMs, copies, deltas, gone }: IpsecWord, known?: number): IpsecTaken {
    const own = this.#of(swarm, endpoint);
    if (own.size + copies.length > IPSEC_LIMITS.sessionsMax * 2)
      throw new ForeshiftError("TOO_MANY", {
        field: "copies",
        value: String(own.size + copies.length),
        detail: "IPsec sessions",
      });
    const unknown: string[] = [];
    for (const copy of copies) this.#copied(swarm, endpoint, copy, sentAtMs);
    for (const delta of deltas) if (!this.#moved(swarm, endpoint, delta, sentAtMs)) unknown.push(delta.session);
    for (const id of gone) this.#gone(swarm, endpoint, id);
    if (copies.length > 0 || gone.length > 0) this.#nameShadows(swarm, endpoint);
    if (known === this.#shadowsVersion) return { unknown };
    const shadows = Object.fromEntries(
      [...own].flatMap(([id, { session }]) => (session.shadow === undefined ? [] : [[id, session.shadow] as const])),
    );
    return { unknown, shadows, shadowsVersion: this.#shadowsVersion };
  }

  /** First all that the endpoint is the shadow of, then what comes, until `out` closes. */
  subscribe(swarm: string, shadow: string, out: Writable): void {
    const key = nameOf(swarm, shadow);
    const outs = this.#out.get(key) ?? new Set<Writable>();
    this.#out.set(key, outs.add(out));
    out.once("close", () => outs.delete(out));
    send(out, { ipsecAnew: true });
    for (const [holder, sessions] of this.#held) {
      if (!holder.startsWith(`${swarm} `)) continue;
      for (const { session, sentAtMs } of sessions.values())
        if (session.shadow === shadow) send(out, { ipsec: session, sentAtMs });
    }
  }

  /**
   * Shadows that came, went, or are about to fail: their share gets another. What nobody has said a word of for long is of no use to
   * anybody. To be called now and then.
   */
  check(nowMs: number): void {
    for (const [holder, sessions] of this.#held) {
      const [swarm = "", endpoint = ""] = holder.split(" ");
      for (const [id, { sentAtMs }] of sessions)
        if (nowMs - sentAtMs > IPSEC_LIMITS.copyLifeMs) this.#gone(swarm, endpoint, id);
      if (sessions.size === 0) this.#held.delete(holder);
      else this.#nameShadows(swarm, endpoint);
    }
  }

  #copied(swarm: string, endpoint: string, copy: IpsecSession, sentAtMs: number): void {
    if (copy.endpoint !== endpoint)
      throw new ForeshiftError("NOT_YOURS", { value: endpoint, detail: `send an IPsec session of ${copy.endpoint}` });
    const own = this.#of(swarm, endpoint);
    const id = sessionId(copy);
    const known = own.get(id);
    const { shadow: _, ...rest } = applyCopy(known?.session, copy);
    const shadow = known?.session.shadow;
    const session = shadow === undefined ? rest : { ...rest, shadow };
    own.set(id, { session, sentAtMs });
    if (shadow !== undefined) this.#tell(swarm, shadow, { ipsec: session, sentAtMs });
  }

  /** False when there is no copy for it to move. One that takes a counter back makes an end of the copy, and a new one is asked for. */
  #moved(swarm: string, endpoint: string, delta: NamedDelta, sentAtMs: number): boolean {
    const kept = this.#of(swarm, endpoint).get(delta.session);
    if (kept === undefined) return false;
    const { session: id, ...moved } = delta;
    try {
      kept.session = applyDelta(kept.session, moved);
      kept.sentAtMs = sentAtMs;
    } catch {
      this.#log.warn({ event: "ipsec-counters-went-back", swarm, endpoint });
      this.#gone(swarm, endpoint, id);
      return false;
    }
    const { shadow } = kept.session;
    if (shadow !== undefined) this.#tell(swarm, shadow, { ipsecDelta: delta, sentAtMs });
    return true;
  }

  #gone(swarm: string, endpoint: string, id: string): void {
    const own = this.#of(swarm, endpoint);
    const shadow = own.get(id)?.session.shadow;
    own.delete(id);
    this.#shadowsVersion += 1;
    if (shadow !== undefined) this.#tell(swarm, shadow, { ipsecGone: id });
  }

  /** Room is reserved: what a candidate is promised by other holders is not promised twice. Those that have a shadow that may be one keep it. */
  #nameShadows(swarm: string, holder: string): void {
    const candidates = this.#candidates(swarm).filter(({ endpoint }) => endpoint !== holder);
    const own = this.#of(swarm, holder);
    const fit = new Set(candidates.map(({ endpoint }) => endpoint));
    const without = [...own].filter(([, { session }]) => session.shadow === undefined || !fit.has(session.shadow));
    if (without.length === 0 || candidates.length === 0) return;
    const promised = this.#promised(swarm);
    const left = candidates.map((one) => {
      const taken = this.#of(swarm, one.endpoint).size + (promised.get(one.endpoint) ?? 0);
      return { ...one, room: Math.max(0, one.room - taken) };
    });
    const named = reserveShadows(
      holder,
      without.map(([id]) => id),
      left,
    );
    for (const [id, shadow] of named) {
      const kept = own.get(id);
      if (kept === undefined || kept.session.shadow === shadow) continue;
      if (kept.session.shadow !== undefined) this.#tell(swarm, kept.session.shadow, { ipsecGone: id });
      kept.session = { ...kept.session, shadow };
      this.#shadowsVersion += 1;
      this.#tell(swarm, shadow, { ipsec: kept.session, sentAtMs: kept.sentAtMs });
    }
  }

  #promised(swarm: string): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const [holder, sessions] of this.#held) {
      if (!holder.startsWith(`${swarm} `)) continue;
      for (const { session } of sessions.values())
        if (session.shadow !== undefined) counts.set(session.shadow, (counts.get(session.shadow) ?? 0) + 1);
    }
    return counts;
  }

  #of(swarm: string, endpoint: string): Map<string, Kept> {
    const key = nameOf(swarm, endpoint);
    const own = this.#held.get(key) ?? new Map<string, Kept>();
    this.#held.set(key, own);
    return own;
  }

  #tell(swarm: string, shadow: string, line: IpsecLine): void {
    for (const out of this.#out.get(nameOf(swarm, shadow)) ?? []) send(out, line);
  }
}

/** Of a shadow that is behind, counters are left out: those of the next delta say more. */
function send(out: Writable, line: IpsecLine): void {
  if (out.writableEnded || out.destroyed) return;
  if ("ipsecDelta" in line && out.writableLength > IPSEC_LIMITS.streamBehindBytesMax) return;
  out.write(`${JSON.stringify(line)}\n`);
  if (out.writableLength > LIMITS.collector.streamUnsentBytesMax) out.destroy();
}

function nameOf(swarm: string, endpoint: string): string {
  return `${swarm} ${endpoint}`;
}
