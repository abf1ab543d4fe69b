/**
 * The sessions of a whole swarm from what each endpoint reported in one step. An endpoint that falls silent is not taken for one that is empty:
 * the step counts as not measured, until the others have taken its sessions over or it has been silent for long.
 */
export const SILENCE = {
  /** Then what the others carry is believed to be all: an hour of five-minute steps. */
  stepsMax: 12,
  /** The others have taken the sessions of the silent ones over when they carry so much of them more. */
  absorbedShare: 0.5,
} as const;

/** What one endpoint reported in a step. */
export interface EndpointStep {
  /** Mean of its sessions. */
  readonly sessions: number;
  /** Values that is the mean of: fewer than others' when it was there for a part of the step. */
  readonly count: number;
}

interface Known {
  /** As last reported, less what it had no time for in its last step. */
  readonly sessions: number;
  readonly silentSteps: number;
  /** What the others carried in the last step that it reported in. */
  readonly othersThen: number;
}

export class SwarmTotal {
  private known = new Map<string, Known>();

  /** The sum over the endpoints, or NaN where some of it was not measured. To be called once for every step, empty ones included. */
  take(reported: ReadonlyMap<string, EndpointStep>): number {
    const counted = this.countedOf(reported);
    const sum = sumOf(counted.values());
    const silent = [...this.known].filter(([endpoint]) => !reported.has(endpoint));
    const lost = sumOf(silent.map(([, { sessions }]) => sessions));
    const risen = sum - Math.max(0, ...silent.map(([, { othersThen }]) => othersThen));
    const isAbsorbed = reported.size > 0 && risen >= SILENCE.absorbedShare * lost;
    const longest = Math.max(0, ...silent.map(([, { silentSteps }]) => silentSteps));
    const isLong = longest >= SILENCE.stepsMax;
    const next = new Map<string, Known>();
    for (const [endpoint, sessions] of inTheirTime(reported))
      next.set(endpoint, { sessions, silentSteps: 0, othersThen: sum - (counted.get(endpoint) ?? 0) });
    for (const [endpoint, one] of silent) {
      const silentSteps = one.silentSteps + 1;
      if (!isAbsorbed && silentSteps <= SILENCE.stepsMax) next.set(endpoint, { ...one, silentSteps });
    }
    this.known = next;
    if (reported.size === 0) return Number.NaN;
    return lost === 0 || isAbsorbed || isLong ? sum : Number.NaN;
  }

  /**
   * What each adds to the sum. Sessions that moved within the step were reported by two endpoints, each for its part of it: one that came counts by
   * its part, and so does one that went, if the others took its sessions over. Else it was silent for the rest, and counts in full.
   */
  private countedOf(reported: ReadonlyMap<string, EndpointStep>): ReadonlyMap<string, number> {
    const parts = inTheirTime(reported);
    const inFull = new Map([...reported].map(([endpoint, { sessions }]) => [endpoint, sessions]));
    const short = [...reported.keys()].filter((endpoint) => (parts.get(endpoint) ?? 0) < (inFull.get(endpoint) ?? 0));
    const going = new Set(short.filter((endpoint) => this.known.has(endpoint)));
    const missing = sumOf([...going].map((endpoint) => (inFull.get(endpoint) ?? 0) - (parts.get(endpoint) ?? 0)));
    const others = sumOf([...parts].map(([endpoint, sessions]) => (going.has(endpoint) ? 0 : sessions)));
    const othersThen = sumOf([...this.known].map(([endpoint, { sessions }]) => (going.has(endpoint) ? 0 : sessions)));
    const wentOver = others - othersThen >= SILENCE.absorbedShare * missing;
    return new Map(
      [...inFull].map(([endpoint, sessions]) => {
        const isPart = this.known.has(endpoint) ? wentOver : this.known.size > 0;
        return [endpoint, isPart ? (parts.get(endpoint) ?? 0) : sessions];
      }),
    );
  }
}

/** The sessions of each, less what it had no time for: averages over the step of what it carried. */
function inTheirTime(reported: ReadonlyMap<string, EndpointStep>): ReadonlyMap<string, number> {
  const fullest = Math.max(1, ...[...reported.values()].map(({ count }) => count));
  return new Map([...reported].map(([endpoint, { sessions, count }]) => [endpoint, sessions * (count / fullest)]));
}

function sumOf(values: Iterable<number>): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}
