/** IPsec sessions of a world: who has SAs with which client, and by which it sends. It keeps score of clients that lost their SAs. */
import type { AdoptedIpsec, AdoptIpsecOrder, HeldIpsec } from "../../../models/ipsec/wire.ts";
import type { SimulatedMachine } from "./fleet.ts";

interface Session {
  readonly id: string;
  endpoint: string;
  readonly madeAtMs: number;
}

export interface SimulatedIpsecClient {
  readonly client: string;
  readonly sessions: Session[];
  /** The newest, which it sends by. */
  sendsBy: Session;
  answers: boolean;
  sends: boolean;
  /** Nothing that it sends by new SAs arrives. */
  isCutOff: boolean;
}

export class SimulatedIpsec {
  readonly clients: SimulatedIpsecClient[] = [];
  /** Clients whose SAs went while they sent by them. */
  readonly dropped: string[] = [];
  /** Clients that were called before what they send anew was led to whoever called them. */
  readonly strayed: string[] = [];
  /** Clients whose SAs another endpoint went on with when theirs was no member any more. */
  readonly handedOver: string[] = [];
  readonly #adoptions = new Map<string, readonly { readonly called: Session["id"]; readonly made: Session | undefined }[]>();
  #made = 0;
  #isThere = false;

  connect(machine: SimulatedMachine, count: number): readonly SimulatedIpsecClient[] {
    this.#isThere = true;
    const made = Array.from({ length: count }, (): SimulatedIpsecClient => {
      const session = this.#session(machine.name);
      const client = `198.18.50.${this.#made}`;
      return { client, sessions: [session], sendsBy: session, answers: true, sends: true, isCutOff: false };
    });
    this.clients.push(...made);
    return made;
  }

  /** Undefined while there is no IPsec in this world. */
  heldBy({ name }: SimulatedMachine): readonly HeldIpsec[] | undefined {
    if (!this.#isThere) return undefined;
    return this.clients.flatMap((one) =>
      one.sessions
        .filter(({ endpoint }) => endpoint === name)
        .map((session) => ({
          session: session.id,
          client: one.client,
          connection: "net",
          children: ["net"],
          received: this.#receives(one, session) ? Date.now() - session.madeAtMs + 1 : 0,
        })),
    );
  }

  call(
    machine: SimulatedMachine,
    operation: string,
    sessions: readonly AdoptIpsecOrder["sessions"][number][],
    pinOf: (client: string) => string | undefined,
  ): void {
    const callings = sessions.map(({ session: called, client }) => {
      const one = this.clients.find((candidate) => candidate.client === client);
      if (one?.answers !== true || !machine.alive) return { called, made: undefined };
      if (pinOf(client) !== machine.name) this.strayed.push(client);
      const made = this.#session(machine.name);
      one.sessions.push(made);
      one.sendsBy = made;
      return { called, made };
    });
    this.#adoptions.set(`${machine.name}:${operation}`, callings);
  }

  outcomes(key: string): readonly AdoptedIpsec[] {
    return (this.#adoptions.get(key) ?? []).map(({ called: session, made }) => {
      if (made === undefined) return { session, state: "failed", received: false, detail: "no answer" };
      const one = this.clients.find(({ sessions }) => sessions.includes(made));
      return { session, state: "up", made: made.id, received: one !== undefined && this.#receives(one, made) };
    });
  }

  letGo({ name }: SimulatedMachine, ids: readonly string[]): void {
    for (const one of this.clients) {
      const going = one.sessions.filter(({ id, endpoint }) => endpoint === name && ids.includes(id));
      for (const session of going) one.sessions.splice(one.sessions.indexOf(session), 1);
      if (!going.includes(one.sendsBy)) continue;
      const newest = one.sessions.at(-1);
      if (newest === undefined) this.dropped.push(one.client);
      else one.sendsBy = newest;
    }
  }

  /** An endpoint that is no member any more: as the reflex has it, another one goes on with what is left there. */
  leave(name: string, heir: string): void {
    for (const one of this.clients) {
      const left = one.sessions.filter(({ endpoint }) => endpoint === name);
      if (left.length > 0) this.handedOver.push(one.client);
      for (const session of left) session.endpoint = heir;
    }
  }

  /** A machine that has ended, with the SAs that it had. */
  end(name: string): void {
    for (const one of this.clients) if (one.sendsBy.endpoint === name) this.dropped.push(one.client);
  }

  #receives({ sends, sendsBy, isCutOff, sessions }: SimulatedIpsecClient, session: Session): boolean {
    return sends && sendsBy === session && !(isCutOff && sessions.length > 1);
  }

  #session(endpoint: string): Session {
    this.#made += 1;
    return { id: this.#made.toString(16).padStart(32, "0"), endpoint, madeAtMs: Date.now() };
  }
}
