/**
 * Sessions that come here, or leave, by plan: make before break. This endpoint makes an IKE SA of its own with the client, which goes on with the
 * one that it has until packets come by the other; then the endpoint before says goodbye. No SA is ever in two kernels, so that no number is
 * used twice and none is accepted twice.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import type { EspHold } from "../../../drivers/tunnel/esp-hold.ts";
import type { IkeDaemon, IkeSaView } from "../../../drivers/tunnel/strongswan.ts";
import { ForeshiftError, messageOf } from "../../../models/errors.ts";
import type { AdoptedIpsec, AdoptIpsecOrder, HeldIpsec, LetGoIpsecOrder } from "../../../models/ipsec/wire.ts";
import { IPSEC_LIMITS } from "../../../models/limits-ipsec.ts";
import { counted } from "../../../models/words.ts";
import type { OwnSessions } from "./own-sessions.ts";

export interface MoveParts {
  readonly ike: IkeDaemon;
  readonly hold: EspHold;
  readonly own: OwnSessions;
  readonly log: Logger;
  /** Reads kernel and strongSwan. */
  readonly read: () => Promise<void>;
  /** The balancer has taken a word with this session in it: the client's SPIs and ways back lead here. */
  readonly isSteered: (session: string) => boolean;
  readonly signal: AbortSignal;
}

type Called = AdoptIpsecOrder["sessions"][number];

interface Calling {
  readonly called: Called;
  /** Inbound SPIs that the client had here before. */
  readonly before: ReadonlySet<number>;
  state: "begun" | "made" | "failed";
  detail: string | undefined;
}

export class Moves {
  readonly #parts: MoveParts;
  readonly #log: Logger;
  /** By operation; the oldest are forgotten. */
  readonly #adoptions = new Map<string, Promise<readonly Calling[]>>();
  #turn: Promise<void> = Promise.resolve();

  constructor(parts: MoveParts) {
    this.#parts = parts;
    this.#log = parts.log;
  }

  /** Where ESP cannot be made to wait, sessions that come here lose what their clients send in the last moment of their handshakes. */
  async open(): Promise<void> {
    try {
      await this.#parts.hold.open();
    } catch (thrown) {
      this.#log.warn({ event: "ipsec-hold-not-ready", detail: messageOf(thrown) });
    }
  }

  held(): readonly HeldIpsec[] {
    return this.#parts.own.held();
  }

  /** Begins it, and answers at once; asked again by the same operation it says how far it has come. */
  async adopt({
    operation,
    sessions,
  }: {
    readonly operation: string;
    readonly sessions: readonly Called[];
  }): Promise<readonly AdoptedIpsec[]> {
    const known = this.#adoptions.get(operation) ?? this.#begin(operation, sessions);
    const callings = await known;
    return callings.map((calling) => this.#outcomeOf(calling));
  }

  /** Clients are told that these sessions end. COMMAND_FAILED when one is still there in the end. */
  async letGo({ sessions }: Pick<LetGoIpsecOrder, "sessions">): Promise<number> {
    const wanted = new Set(sessions);
    const found = async () => (await this.#parts.ike.sas()).filter((view) => wanted.has(idOf(view)));
    const going = await found();
    // A client that does not answer any more is no reason to keep its SAs: that is looked at below.
    await Promise.allSettled(going.map(({ uniqueId }) => this.#parts.ike.terminate(uniqueId)));
    await this.#parts.read();
    const left = going.length === 0 ? [] : await found();
    if (left.length > 0)
      throw new ForeshiftError("COMMAND_FAILED", {
        field: "terminate",
        detail: `${counted(left.length, "IKE SA")} did not end`,
      });
    this.#log.info({ event: "ipsec-let-go", sessions: going.length });
    return going.length;
  }

  #begin(operation: string, sessions: readonly Called[]): Promise<readonly Calling[]> {
    const begun = this.#callings(sessions);
    this.#adoptions.set(operation, begun);
    begun.catch(() => this.#adoptions.delete(operation));
    for (const oldest of this.#adoptions.keys()) {
      if (this.#adoptions.size <= IPSEC_LIMITS.outcomesKept) break;
      this.#adoptions.delete(oldest);
    }
    void begun.then((callings) => {
      for (const calling of callings) this.#turn = this.#turn.then(() => this.#call(calling));
    }, ignore);
    return begun;
  }

  async #callings(sessions: readonly Called[]): Promise<readonly Calling[]> {
    await this.#parts.read();
    const spis = Map.groupBy(this.#parts.own.steered(), ({ client }) => client);
    return sessions.map((called) => {
      const here = spis.get(called.client) ?? [];
      const before = new Set(here.flatMap(({ inbound }) => inbound.map(({ spi }) => spi)));
      return { called, before, state: "begun", detail: undefined };
    });
  }

  /** One client after the other, for as long as each is quick: the next does not wait for one that does not answer. */
  async #call(calling: Calling): Promise<void> {
    const { signal } = this.#parts;
    if (signal.aborted) return;
    await this.#endFormer(calling.called);
    const release = await this.#hold(calling.called.client);
    const late = new AbortController();
    try {
      const pause = delay(IPSEC_LIMITS.holdMsMax, undefined, { signal: AbortSignal.any([late.signal, signal]) });
      await Promise.race([this.#initiate(calling), pause.catch(ignore)]);
    } finally {
      late.abort();
      await release();
    }
  }

  /**
   * An endpoint that was out and is back may have an IKE SA with the client whose SAs others went on with: strongSwan would ask for the new ones
   * inside it. The client is told that it ends.
   */
  async #endFormer({ client, connection, session }: Called): Promise<void> {
    try {
      const held = new Set(this.#parts.own.held().map((one) => one.session));
      const former = (await this.#parts.ike.sas()).filter(
        (view) => view.remoteHost === client && view.connection === connection && !held.has(idOf(view)),
      );
      for (const { uniqueId } of former) await this.#parts.ike.terminate(uniqueId);
      if (former.length > 0) this.#log.info({ event: "ipsec-former-ended", session, ikeSas: former.length });
    } catch (thrown) {
      this.#log.warn({ event: "ipsec-former-not-ended", session, detail: messageOf(thrown) });
    }
  }

  async #initiate(calling: Calling): Promise<void> {
    const { session, connection, children } = calling.called;
    try {
      for (const child of children) await this.#parts.ike.initiate(connection, child);
      calling.state = "made";
      this.#log.info({ event: "ipsec-adopted", session });
    } catch (thrown) {
      calling.state = "failed";
      calling.detail = messageOf(thrown);
      this.#log.warn({ event: "ipsec-not-adopted", session, detail: calling.detail });
    }
    void this.#parts.read();
  }

  /** Where nothing can be made to wait the client is called all the same: what it sends until SAs are here is lost. */
  async #hold(client: string): Promise<() => Promise<void>> {
    const unheld = (thrown: unknown) => this.#log.warn({ event: "ipsec-not-held", client, detail: messageOf(thrown) });
    try {
      const release = await this.#parts.hold.hold(client);
      return () => release().catch(unheld);
    } catch (thrown) {
      unheld(thrown);
      return () => Promise.resolve();
    }
  }

  #outcomeOf({ called, before, state, detail }: Calling): AdoptedIpsec {
    const { session, client, connection } = called;
    if (state === "failed") return { session, state, received: false, ...(detail === undefined ? {} : { detail }) };
    const isNew = ({ spi }: { readonly spi: number }) => !before.has(spi);
    const made = this.#parts.own
      .steered()
      .find((one) => one.client === client && one.connection === connection && one.inbound.some(isNew));
    if (state === "begun" || made === undefined || !this.#parts.isSteered(made.session))
      return { session, state: "begun", received: false };
    const received = made.inbound.some((half) => isNew(half) && half.sequence > 0);
    return { session, state: "up", made: made.session, received };
  }
}

function idOf({ initiatorSpi, responderSpi }: IkeSaView): string {
  return `${initiatorSpi}${responderSpi}`;
}

function ignore(): void {}
