/** Forecasts of a swarm's load as they were told, to be held against what came. */

/** One horizon of one forecast. Sessions are those of the whole swarm. Plain JSON. */
export interface ToldForecast {
  /** Unix milliseconds: end of the newest step it knew of, and end of the step it is for. */
  readonly madeAtMs: number;
  readonly targetAtMs: number;
  readonly median: number;
  /** The 90 % interval. */
  readonly lower: number;
  readonly upper: number;
  /** What was to be carried on its account. */
  readonly demand: number;
  /** Each method's share of the mixture, by name. */
  readonly methods: Readonly<Record<string, number>>;
  /** What came; undefined before that, and where it was not measured or looked like an outage. */
  readonly actual?: number | undefined;
}

/** What came in the step that ends at `targetAtMs`. */
export interface LoadOutcome {
  readonly targetAtMs: number;
  readonly sessions: number;
}

/** How the forecasts of one horizon turned out. */
export interface HorizonScore {
  readonly horizonMs: number;
  /** Forecasts whose outcome is known. */
  readonly outcomes: number;
  /** Share of them inside the 90 % interval. Undefined without outcomes, as all that follow. */
  readonly coverage90: number | undefined;
  /** Mean pinball loss at 5, 50 and 95 %, in sessions. */
  readonly pinballLoss: number | undefined;
  /** Share of them in which what was to be carried was less than what came. */
  readonly shortShare: number | undefined;
}

/** Those of the forecast that was made last, the nearest horizon first. */
export function newestOf(forecasts: readonly ToldForecast[]): readonly ToldForecast[] {
  const madeAtMs = Math.max(...forecasts.map((one) => one.madeAtMs));
  return forecasts.filter((one) => one.madeAtMs === madeAtMs).toSorted((one, other) => one.targetAtMs - other.targetAtMs);
}
