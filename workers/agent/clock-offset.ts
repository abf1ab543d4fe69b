/**
 * This machine's clock against the collector's, from the exchange of heartbeat and answer, as NTP does it: of the last exchanges the
 * quickest is believed, since its way leaves the least room for error.
 */
export interface Exchange {
  /** By this machine's clock, Unix milliseconds: the heartbeat left, and the answer came. */
  readonly sentAtMs: number;
  readonly answeredAtMs: number;
  /** By the collector's clock: the heartbeat came, and the answer left. */
  readonly receivedThereAtMs: number;
  readonly answeredThereAtMs: number;
}

/** NTP's clock filter keeps eight (RFC 5905, 10). */
const EXCHANGES_KEPT = 8;

interface Measured {
  readonly offsetMs: number;
  readonly rttMs: number;
}

export class ClockOffset {
  #last: readonly Measured[] = [];

  note({ sentAtMs, answeredAtMs, receivedThereAtMs, answeredThereAtMs }: Exchange): void {
    const rttMs = answeredAtMs - sentAtMs - (answeredThereAtMs - receivedThereAtMs);
    // A clock that was set between the two ends of an exchange makes nonsense of it.
    if (!(rttMs >= 0)) return;
    const offsetMs = (sentAtMs - receivedThereAtMs + answeredAtMs - answeredThereAtMs) / 2;
    this.#last = [...this.#last, { offsetMs, rttMs }].slice(-EXCHANGES_KEPT);
  }

  /** This machine's clock less the collector's; undefined before the first exchange. */
  get offsetMs(): number | undefined {
    return this.gauges()["clockOffsetMs"];
  }

  gauges(): Readonly<Record<string, number>> {
    const newest = this.#last.at(-1);
    const [quickest] = this.#last.toSorted((one, other) => one.rttMs - other.rttMs);
    if (newest === undefined || quickest === undefined) return {};
    return { clockOffsetMs: quickest.offsetMs, collectorRttMs: newest.rttMs };
  }
}
