/**
 * The IPsec sessions that live on this endpoint: strongSwan's IKE SAs with the kernel's SAs under them, counted on by the kernel's events,
 * and what of them the collector has not been told yet. Keys are in here sealed only; the clock is given.
 */
import { hostsOf, saSecret, sealContext } from "../../../drivers/tunnel/ipsec-sas.ts";
import type { IkeChild, IkeSaView } from "../../../drivers/tunnel/strongswan.ts";
import type { XfrmCounters } from "../../../drivers/tunnel/xfrm-events.ts";
import type { XfrmState } from "../../../drivers/tunnel/xfrm-state.ts";
import { type ChildSa, type CounterDelta, IpsecSession, sessionId } from "../../../models/ipsec/state.ts";
import type { HeldIpsec, NamedDelta, SteeredSession } from "../../../models/ipsec/wire.ts";
import { IPSEC_LIMITS } from "../../../models/limits-ipsec.ts";
import { keyOf, type ReadAt, SaCounts, type SaName } from "./sa-counts.ts";

/** What an SA's secret is sealed as, and under which name. */
export interface Unsealed {
  readonly key: string;
  readonly context: string;
  readonly value: string;
}

export interface Untold {
  readonly copies: readonly IpsecSession[];
  readonly deltas: readonly NamedDelta[];
  readonly gone: readonly string[];
  /** What changed after it is not in it. */
  readonly mark: number;
}

/** The collector's answer; `shadows` only when they are others than at the version that it was asked with. */
interface Answer {
  readonly unknown: readonly string[];
  readonly shadows?: Readonly<Record<string, string>> | undefined;
  readonly shadowsVersion?: number | undefined;
}

/** That there may be something to tell of a session: of its counters alone, or of anything. */
interface Due {
  readonly mark: number;
  readonly whole: boolean;
}

interface Own {
  readonly view: IkeSaView;
  readonly pairs: readonly { readonly child: IkeChild; readonly outbound: XfrmState; readonly inbound: XfrmState }[];
  readonly endsAtMs: ReadonlyMap<number, number>;
}

interface Told {
  readonly shape: string;
  /** By SA; what the collector has. */
  readonly sequences: Map<string, number>;
  atMs: number;
}

export class OwnSessions {
  readonly #endpoint: string;
  #own = new Map<string, Own>();
  readonly #counts = new SaCounts();
  readonly #sealed = new Map<string, string>();
  readonly #told = new Map<string, Told>();
  #shadows: ReadonlyMap<string, string> = new Map();
  #shadowsVersion: number | undefined;
  #shadowsChanged = 0;
  /** By session; a word looks at these alone, for it is put together twenty times a second. */
  readonly #due = new Map<string, Due>();
  #mark = 0;
  /** Sessions that another endpoint was given: their end is not told. */
  readonly #handed = new Set<string>();
  #sessionOf: ReadonlyMap<string, string> = new Map();
  #ended = 0;
  /** Sessions that cannot travel: selectors with ports, more children than may be. */
  readonly #left = new Set<string>();
  #version: number;

  /** `version`: above any that a process before this one has given out. */
  constructor(endpoint: string, version: number) {
    this.#endpoint = endpoint;
    this.#version = version;
  }

  get count(): number {
    return this.#own.size;
  }

  /** How many sessions that lived here have gone. */
  get ended(): number {
    return this.#ended;
  }

  /** Sessions that cannot be shadowed. */
  get leftOut(): number {
    return this.#left.size;
  }

  /** By the collector's count; undefined before it has said any. */
  get shadowsVersion(): number | undefined {
    return this.#shadowsVersion;
  }

  /** How often sessions were given other shadows. */
  get shadowsChanged(): number {
    return this.#shadowsChanged;
  }

  /** As kernel and strongSwan have them. */
  observe(states: readonly XfrmState[], views: readonly IkeSaView[], readAt: ReadAt): void {
    const byKey = new Map(states.map((state) => [keyOf(state), state]));
    this.#counts.read(states, readAt);
    for (const key of this.#sealed.keys()) if (!byKey.has(key)) this.#sealed.delete(key);
    const before = this.#own;
    this.#own = new Map();
    for (const view of views) {
      const pairs = view.children.flatMap((child) => {
        const outbound = byKey.get(`${view.remoteHost} ${child.outboundSpi}`);
        const inbound = byKey.get(`${view.localHost} ${child.inboundSpi}`);
        return outbound === undefined || inbound === undefined ? [] : [{ child, outbound, inbound }];
      });
      if (pairs.length === 0) continue;
      const id = `${view.initiatorSpi}${view.responderSpi}`;
      this.#own.set(id, { view, pairs, endsAtMs: endsOf(pairs, before.get(id)?.endsAtMs, readAt.atMs) });
    }
    this.#sessionOf = new Map(
      [...this.#own].flatMap(([id, { pairs }]) =>
        pairs.flatMap(({ outbound, inbound }) => [outbound, inbound].map((state) => [keyOf(state), id] as const)),
      ),
    );
    for (const id of before.keys()) if (!this.#own.has(id)) this.#ended += 1;
    for (const id of this.#left) if (!this.#own.has(id)) this.#left.delete(id);
    for (const id of new Set([...this.#own.keys(), ...this.#told.keys()])) this.#changed(id, true);
  }

  /** The longest that an event of the kernel was seen to take until it was heard here. */
  get eventLagMs(): number {
    return this.#counts.eventLagMs;
  }

  /** True when it is of an SA that is known. */
  heard(event: XfrmCounters, atMs: number): boolean {
    if (!this.#counts.heard(event, atMs)) return false;
    this.#changed(this.#sessionOf.get(keyOf(event)), false);
    return true;
  }

  /** SAs that are to be given a pace, each answered once. */
  toBePaced(): readonly SaName[] {
    return this.#counts.toBePaced();
  }

  /** These SAs are about to go, and another endpoint goes on with them. */
  handedOver(states: readonly XfrmState[]): void {
    for (const state of states) {
      const id = this.#sessionOf.get(keyOf(state));
      if (id !== undefined) this.#handed.add(id);
    }
  }

  unsealed(): readonly Unsealed[] {
    return [...this.#own.values()].flatMap(({ pairs }) =>
      pairs.flatMap(({ outbound, inbound }) =>
        [
          { key: keyOf(outbound), context: sealContext(this.#endpoint, outbound.spi, "out"), value: saSecret(outbound) },
          { key: keyOf(inbound), context: sealContext(this.#endpoint, inbound.spi, "in"), value: saSecret(inbound) },
        ].filter(({ key }) => !this.#sealed.has(key)),
      ),
    );
  }

  sealed(key: string, text: string): void {
    this.#sealed.set(key, text);
    this.#changed(this.#sessionOf.get(key), true);
  }

  /** What the collector lacks: whole copies of new shapes, counters of what moved, or that nothing did since they were told. */
  untold(nowMs: number): Untold | undefined {
    const copies: IpsecSession[] = [];
    const deltas: NamedDelta[] = [];
    const gone: string[] = [];
    for (const [id, { whole }] of this.#due) {
      const own = this.#own.get(id);
      const told = this.#told.get(id);
      if (own === undefined) {
        if (this.#handed.delete(id)) this.#told.delete(id);
        else if (told !== undefined) gone.push(id);
      } else if (told !== undefined && (!whole || this.#hasShape(id, own, told.shape))) {
        const delta = this.#delta(id, own, told, nowMs);
        if (delta !== undefined) deltas.push(delta);
      } else {
        const session = this.#session(own);
        if (session !== undefined) copies.push({ ...session, version: this.#next(nowMs) });
      }
    }
    if (copies.length === 0 && deltas.length === 0 && gone.length === 0) return undefined;
    return { copies, deltas, gone, mark: this.#mark };
  }

  /** The collector has taken it, and says what it does not know and who shadows what. */
  told({ copies, deltas, gone, mark }: Untold, { unknown, shadows, shadowsVersion }: Answer): void {
    for (const [id, due] of this.#due) if (due.mark <= mark) this.#due.delete(id);
    for (const copy of copies) {
      const sequences = new Map(halvesOf(copy).map(({ key, sequence }) => [key, sequence]));
      this.#told.set(sessionId(copy), { shape: shapeOf(copy), sequences, atMs: copy.updatedAtMs });
    }
    for (const { session, atMs, counters } of deltas) {
      const told = this.#told.get(session);
      if (told === undefined) continue;
      told.atMs = Math.max(told.atMs, atMs);
      for (const { spi, sequence, seen } of counters)
        told.sequences.set(`${seen === undefined ? "out" : "in"} ${spi}`, sequence);
    }
    for (const id of [...gone, ...unknown]) this.#told.delete(id);
    for (const id of unknown) this.#changed(id, true);
    if (shadows === undefined) return;
    this.#shadowsVersion = shadowsVersion;
    const named = Object.entries(shadows);
    if (named.length === this.#shadows.size && named.every(([id, shadow]) => this.#shadows.get(id) === shadow)) return;
    this.#shadows = new Map(named);
    this.#shadowsChanged += 1;
  }

  /** For the balancer. Clients that are not reached by IPv4 are not steered. */
  steered(): readonly SteeredSession[] {
    return [...this.#own].flatMap(([session, { view, pairs }]) => {
      if (view.remoteHost.includes(":")) return [];
      const shadow = this.#shadows.get(session);
      const inbound = pairs.map((pair) => ({
        spi: pair.inbound.spi,
        sequence: this.#counts.of(pair.inbound)?.sequence ?? 0,
      }));
      return [
        {
          session,
          client: view.remoteHost,
          connection: view.connection,
          child: pairs[0]?.child.name ?? "",
          innerAddresses: [...new Set(pairs.flatMap(({ child }) => hostsOf(child.remote)))],
          ...(shadow === undefined ? {} : { shadow }),
          inbound,
        },
      ];
    });
  }

  /** For whoever moves them. */
  held(): readonly HeldIpsec[] {
    return this.steered().map(({ session, client, connection, shadow, inbound }) => ({
      session,
      client,
      connection,
      children: [...new Set(this.#own.get(session)?.pairs.map(({ child }) => child.name))],
      ...(shadow === undefined ? {} : { shadow }),
      received: inbound.reduce((sum, { sequence }) => sum + sequence, 0),
    }));
  }

  /** Addresses that ESP comes in by. */
  localHosts(): ReadonlySet<string> {
    return new Set([...this.#own.values()].map(({ view }) => view.localHost));
  }

  #changed(id: string | undefined, whole: boolean): void {
    if (id === undefined) return;
    this.#mark += 1;
    this.#due.set(id, { mark: this.#mark, whole: whole || this.#due.get(id)?.whole === true });
  }

  /** False too of what cannot be told as it is: it is told anew once it can. */
  #hasShape(id: string, own: Own, shape: string): boolean {
    const session = this.#session(own);
    if (session === undefined) this.#told.delete(id);
    return session !== undefined && shapeOf(session) === shape;
  }

  #delta(id: string, { pairs }: Own, told: Told, nowMs: number): NamedDelta | undefined {
    const updatedAtMs = this.#updatedAtMs(pairs);
    if (updatedAtMs < told.atMs) return undefined;
    const isLong = updatedAtMs - told.atMs >= IPSEC_LIMITS.updateIntervalMs;
    const counters = pairs
      .flatMap(({ outbound, inbound }) => [
        { key: `out ${outbound.spi}`, delta: this.#counter(outbound) },
        { key: `in ${inbound.spi}`, delta: { ...this.#counter(inbound), seen: this.#seen(inbound) } },
      ])
      .filter(({ key, delta }) => isLong || delta.sequence !== told.sequences.get(key));
    if (counters.length === 0) return undefined;
    return { session: id, version: this.#next(nowMs), atMs: updatedAtMs, counters: counters.map(({ delta }) => delta) };
  }

  #updatedAtMs(pairs: Own["pairs"]): number {
    const halves = pairs.flatMap(({ outbound, inbound }) => [outbound, inbound]);
    return Math.round(Math.min(...halves.map((state) => this.#counts.of(state)?.atMs ?? 0)));
  }

  #counter(state: XfrmState): CounterDelta {
    const counted = this.#counts.of(state);
    return {
      spi: state.spi,
      sequence: counted?.sequence ?? 0,
      bytes: counted?.bytes ?? 0,
      packets: counted?.packets ?? 0,
      ...(counted?.peak.pps === undefined ? {} : { peakPps: counted.peak.pps }),
    };
  }

  #seen(state: XfrmState): string {
    return this.#counts.of(state)?.seen ?? "0";
  }

  #sealedBoth({ outbound, inbound }: Own["pairs"][number]): boolean {
    return this.#sealed.has(keyOf(outbound)) && this.#sealed.has(keyOf(inbound));
  }

  /** Undefined while its keys are not sealed, and of one that cannot travel. */
  #session({ view, pairs, endsAtMs }: Own): IpsecSession | undefined {
    const id = `${view.initiatorSpi}${view.responderSpi}`;
    if (!pairs.every((pair) => this.#sealedBoth(pair))) return undefined;
    const shadow = this.#shadows.get(id);
    const parsed = IpsecSession.safeParse({
      endpoint: this.#endpoint,
      ...(shadow === undefined ? {} : { shadow }),
      ike: {
        connection: view.connection,
        initiatorSpi: view.initiatorSpi,
        responderSpi: view.responderSpi,
        local: socketAddress(view.localHost, view.localPort),
        remote: socketAddress(view.remoteHost, view.remotePort),
        localId: view.localId,
        remoteId: view.remoteId,
      },
      children: pairs.map((pair) => this.#child(pair, endsAtMs.get(pair.inbound.spi))),
      version: this.#version,
      updatedAtMs: this.#updatedAtMs(pairs),
    });
    if (parsed.success) this.#left.delete(id);
    else this.#left.add(id);
    return parsed.success ? parsed.data : undefined;
  }

  #child({ child, outbound, inbound }: Own["pairs"][number], endsAtMs: number | undefined): ChildSa {
    const half = (state: XfrmState) => {
      const { bytes = 0, packets = 0, ...counter } = this.#counter(state);
      return { ...counter, bytes, packets, keys: this.#sealed.get(keyOf(state)) ?? "" };
    };
    const { encapsulation } = outbound;
    const [sent, received] = [half(outbound), half(inbound)];
    return {
      name: child.name,
      reqid: outbound.reqid,
      mode: outbound.mode,
      esn: outbound.esn,
      local: [...child.local],
      remote: [...child.remote],
      ...(encapsulation === undefined
        ? {}
        : { encapsulation: { localPort: encapsulation.sourcePort, remotePort: encapsulation.destinationPort } }),
      outbound: sent,
      inbound: {
        ...received,
        replayWindow: inbound.replayWindow,
        seen: this.#seen(inbound),
      },
      lifetime: {
        ...(endsAtMs === undefined ? {} : { endsAtMs }),
        ...(outbound.bytesMax === undefined ? {} : { bytesMax: outbound.bytesMax }),
        ...(outbound.packetsMax === undefined ? {} : { packetsMax: outbound.packetsMax }),
      },
      bytes: sent.bytes + received.bytes,
      packets: sent.packets + received.packets,
    };
  }

  #next(nowMs: number): number {
    this.#version = Math.max(this.#version + 1, Math.floor(nowMs));
    return this.#version;
  }
}

/** Everything but counters: as long as it is the same, deltas say all. */
function shapeOf({ ike, children }: IpsecSession): string {
  const fixed = children.map(({ name, reqid, mode, esn, local, remote, encapsulation, lifetime, outbound, inbound }) => {
    const sealed = [outbound.spi, outbound.keys, inbound.spi, inbound.keys, inbound.replayWindow];
    return [name, reqid, mode, esn, local, remote, encapsulation, lifetime, ...sealed];
  });
  return JSON.stringify([ike, fixed]);
}

function halvesOf({ children }: IpsecSession): readonly { readonly key: string; readonly sequence: number }[] {
  return children.flatMap(({ outbound, inbound }) => [
    { key: `out ${outbound.spi}`, sequence: outbound.sequence },
    { key: `in ${inbound.spi}`, sequence: inbound.sequence },
  ]);
}

/** An SA's end stands once it was read: strongSwan says it in whole seconds, which would change with every reading, and may be one too many. */
function endsOf(
  pairs: Own["pairs"],
  before: ReadonlyMap<number, number> | undefined,
  atMs: number,
): ReadonlyMap<number, number> {
  return new Map(
    pairs.flatMap(({ child, inbound }) => {
      const known = before?.get(inbound.spi);
      if (known !== undefined) return [[inbound.spi, known] as const];
      return child.secondsLeft === undefined
        ? []
        : [[inbound.spi, Math.round(atMs + (child.secondsLeft - 1) * 1_000)] as const];
    }),
  );
}

function socketAddress(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
