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
    const sum = [...reported.values()].reduce((total, { sessions }) => total + sessions, 0);
    const silent = [...this.known].filter(([endpoint]) => !reported.has(endpoint));
    const lost = silent.reduce((total, [, { sessions }]) => total + sessions, 0);
    const risen = sum - Math.max(0, ...silent.map(([, { othersThen }]) => othersThen));
    const isAbsorbed = reported.size > 0 && risen >= SILENCE.absorbedShare * lost;
    const longest = Math.max(0, ...silent.map(([, { silentSteps }]) => silentSteps));
    const isLong = longest >= SILENCE.stepsMax;
    const next = new Map<string, Known>();
    const fullest = Math.max(1, ...[...reported.values()].map(({ count }) => count));
    for (const [endpoint, { sessions, count }] of reported)
      next.set(endpoint, { sessions: (sessions * count) / fullest, silentSteps: 0, othersThen: sum - sessions });
    for (const [endpoint, one] of silent) {
      const silentSteps = one.silentSteps + 1;
      if (!isAbsorbed && silentSteps <= SILENCE.stepsMax) next.set(endpoint, { ...one, silentSteps });
    }
    this.known = next;
    if (reported.size === 0) return Number.NaN;
    return lost === 0 || isAbsorbed || isLong ? sum : Number.NaN;
  }
}
