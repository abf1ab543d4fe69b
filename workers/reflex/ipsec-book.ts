/**
 * Which endpoint holds which IPsec session and takes ESP by which SPI, as the agents say, and where the sessions of those that were put out
 * have gone. Survives the agents, and on disk the reflex itself.
 */
import { z } from "zod";
import { SteeredSession, SteeringWord } from "../../models/ipsec/wire.ts";
import { IPSEC_LIMITS } from "../../models/limits-ipsec.ts";
import { shadowOf } from "../../models/shadow.ts";
import { EndpointName } from "../../models/steering.ts";

const KeptMove = z.object({ session: SteeredSession, from: EndpointName, to: EndpointName, atMs: z.number() });
/** A session that its shadow goes on with, or has made anew. */
export type IpsecMove = z.infer<typeof KeptMove>;

/** Where a client's newest session is, once it has had one elsewhere. */
const Home = z.object({ client: z.ipv4(), endpoint: EndpointName, atMs: z.number() });
type Home = z.infer<typeof Home>;

export const IpsecFile = z.object({
  words: z.array(z.tuple([EndpointName, SteeringWord])),
  moves: z.array(KeptMove),
  homes: z.array(Home).default([]),
});

export class IpsecBook {
  readonly #words = new Map<string, SteeringWord>();
  /** By session. */
  readonly #moves = new Map<string, IpsecMove>();
  /** By client. */
  readonly #homes = new Map<string, Home>();
  dirty = false;

  load({ words, moves, homes }: z.infer<typeof IpsecFile>): void {
    for (const [endpoint, word] of words) this.#words.set(endpoint, word);
    for (const home of homes) this.#homes.set(home.client, home);
    for (const move of moves) this.#moves.set(move.session.session, move);
  }

  snapshot(): z.infer<typeof IpsecFile> {
    return { words: [...this.#words], moves: [...this.#moves.values()], homes: [...this.#homes.values()] };
  }

  /** Endpoints that are IPsec gateways. */
  has(endpoint: string): boolean {
    return this.#words.has(endpoint);
  }

  /** Sessions that live on an endpoint; undefined where it is no IPsec gateway. */
  countOf(endpoint: string): number | undefined {
    return this.#words.get(endpoint)?.sessions.filter(({ session }) => !this.#wentFrom(session, endpoint)).length;
  }

  /** An endpoint's word. `steers`: something else is to be done with packets; `arrived`: sessions that it did not have before. */
  put(
    endpoint: string,
    word: SteeringWord,
    atMs = Date.now(),
  ): { readonly steers: boolean; readonly arrived: readonly SteeredSession[] } {
    const before = this.#words.get(endpoint);
    this.#words.set(endpoint, word);
    this.dirty = true;
    const known = new Set(before?.sessions.map(({ session }) => session));
    const arrived = word.sessions.filter(({ session }) => !known.has(session) && !this.#wentFrom(session, endpoint));
    if (arrived.length > 0) this.#settle(arrived, endpoint, atMs);
    const held = new Set(before?.held);
    const steers = before === undefined || held.size !== word.held.length || word.held.some((spi) => !held.has(spi));
    return { steers, arrived };
  }

  /** Whose kernel takes ESP by an SPI. One that a shadow went on with is the shadow's, whatever the endpoint before says. */
  spis(): ReadonlyMap<number, string> {
    const holders = new Map<number, string>();
    for (const [endpoint, { held }] of this.#words) for (const spi of held) if (!holders.has(spi)) holders.set(spi, endpoint);
    for (const { session, to } of this.#moves.values()) for (const { spi } of session.inbound) holders.set(spi, to);
    return holders;
  }

  /** Clients (IPv4) that were moved, and whose next IKE SA is made where they are: what the packet path learned of them before is of the past. */
  pins(): ReadonlyMap<string, string> {
    const homes = [...this.#homes.values()];
    const moves = [...this.#moves.values()].map(({ session, to, atMs }) => ({ client: session.client, endpoint: to, atMs }));
    const newestLast = [...homes, ...moves].sort((one, other) => one.atMs - other.atMs);
    return new Map(newestLast.map(({ client, endpoint }) => [client, endpoint]));
  }

  /**
   * Gives the sessions of `from` to their shadows: the designated one where it is fit, else one of those that are. Those that had come to it
   * without an IKE SA since, of its own or another's, go on to another.
   */
  moveAll(from: string, fit: ReadonlySet<string>, atMs: number): readonly IpsecMove[] {
    const own = (this.#words.get(from)?.sessions ?? []).filter(({ session }) => !this.#wentFrom(session, from));
    const clients = new Set(own.map(({ client }) => client));
    const underway = [...this.#moves.values()].filter(
      (move) => move.to === from && !clients.has(move.session.client) && !this.#hasLeft(move),
    );
    return this.#give([...own, ...underway.map(({ session }) => session)], from, fit, atMs);
  }

  /** The same for moves whose new endpoint does not answer. */
  redirect(moves: readonly IpsecMove[], fit: ReadonlySet<string>, atMs: number): readonly IpsecMove[] {
    const still = moves.filter((move) => this.#moves.get(move.session.session) === move);
    return still.flatMap(({ session, from, to }) => {
      const { shadow: _, ...rest } = session;
      return this.#give([rest], from, new Set([...fit].filter((endpoint) => endpoint !== to)), atMs);
    });
  }

  /** SPIs that an endpoint must not take ESP by any more. */
  wentFrom(endpoint: string): readonly number[] {
    const own = [...this.#moves.values()].filter(({ from, to }) => from === endpoint && to !== endpoint);
    return own.flatMap(({ session }) => session.inbound.map(({ spi }) => spi));
  }

  /** Endpoints that are no members any more, and moves that have outlived what they had to overrule. */
  forgetBeyond(members: ReadonlySet<string>, nowMs: number): void {
    for (const endpoint of this.#words.keys()) if (!members.has(endpoint)) this.#words.delete(endpoint);
    for (const [id, { to, atMs }] of this.#moves)
      if (!members.has(to) || nowMs - atMs > IPSEC_LIMITS.ikeTimeoutMs) this.#moves.delete(id);
    for (const [client, { endpoint, atMs }] of this.#homes)
      if (!members.has(endpoint) || nowMs - atMs > IPSEC_LIMITS.ikeTimeoutMs) this.#homes.delete(client);
  }

  /** Its client has a newer session elsewhere. */
  #hasLeft({ session, to, atMs }: IpsecMove): boolean {
    const home = this.#homes.get(session.client);
    return home !== undefined && home.endpoint !== to && home.atMs >= atMs;
  }

  #settle(arrived: readonly SteeredSession[], endpoint: string, atMs: number): void {
    const others = [...this.#words].filter(([other]) => other !== endpoint);
    const elsewhere = new Set(others.flatMap(([, { sessions }]) => sessions.map(({ client }) => client)));
    for (const { client } of arrived)
      if (elsewhere.has(client) || this.#homes.has(client)) this.#homes.set(client, { client, endpoint, atMs });
  }

  #wentFrom(session: string, endpoint: string): boolean {
    const move = this.#moves.get(session);
    return move !== undefined && move.to !== endpoint;
  }

  #give(sessions: readonly SteeredSession[], from: string, fit: ReadonlySet<string>, atMs: number): readonly IpsecMove[] {
    const gateways = [...fit].filter((endpoint) => endpoint !== from && this.#words.has(endpoint));
    const moves = sessions.flatMap((session) => {
      const { shadow } = session;
      const to = shadow !== undefined && gateways.includes(shadow) ? shadow : shadowOf(session.session, from, gateways);
      return to === undefined ? [] : [{ session, from, to, atMs }];
    });
    for (const move of moves) {
      // A client has one place: what it had before overrules nothing any more.
      for (const [id, { session }] of this.#moves) if (session.client === move.session.client) this.#moves.delete(id);
      this.#homes.delete(move.session.client);
    }
    for (const move of moves) this.#moves.set(move.session.session, move);
    this.dirty ||= moves.length > 0;
    return moves;
  }
}
