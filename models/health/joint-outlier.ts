/**
 * Several metrics of one endpoint together: none need be odd by itself when they do not go together as they used to. Mahalanobis
 * distance of their z-scores under a covariance that forgets, shrunk towards independence (Ledoit and Wolf 2004 in spirit, with a
 * fixed share), judged by its own past.
 */
import { SurpriseScale } from "./surprise.ts";

const JOINT = {
  metricsMax: 24,
  historyLength: 360,
  /** Observations until the covariance is worth judging by. */
  learnedMin: 60,
  /** Observations in which the weight of one halves. */
  halfLife: 360,
  shrinkage: 0.2,
  /** Larger scores count as this: one metric's outburst is its own anomaly and should not become the covariance. */
  scoreMax: 6,
} as const;

export interface JointVerdict {
  /** 0..8, powers of ten of improbability. */
  readonly surprise: number;
  /** The metrics and their shares of the distance, the largest first. */
  readonly contributions: readonly { readonly metric: string; readonly share: number }[];
}

export interface JointState {
  readonly metrics: readonly string[];
  readonly covariance: readonly number[];
  readonly observations: number;
  readonly residuals: readonly number[];
}

export class JointOutlier {
  /** Fixed by the first that come: the covariance is theirs. */
  #metrics: string[] = [];
  #covariance: number[] = [];
  #observations = 0;
  readonly #scale = new SurpriseScale(JOINT.historyLength);

  /** Takes the z-scores of one moment (any number of metrics, those known) and says how unusual they are together. */
  observe(scores: ReadonlyMap<string, number>): JointVerdict {
    for (const metric of scores.keys()) this.#admit(metric);
    const present = this.#metrics.flatMap((metric, index) => {
      const score = scores.get(metric);
      return score === undefined || !Number.isFinite(score) ? [] : [{ metric, index, score: bounded(score) }];
    });
    if (present.length < 2) return { surprise: 0, contributions: [] };
    const weights = solve(
      this.#block(present),
      present.map(({ score }) => score),
    );
    const parts = present.map(({ metric, score }, place) => ({ metric, part: Math.max(0, score * (weights[place] ?? 0)) }));
    const distance = parts.reduce((sum, { part }) => sum + part, 0);
    const surprise = this.#observations < JOINT.learnedMin ? 0 : this.#scale.observe(Math.sqrt(distance / present.length));
    this.#learn(present);
    const contributions = parts.map(({ metric, part }) => ({ metric, share: distance > 0 ? part / distance : 0 }));
    return { surprise, contributions: contributions.sort((one, other) => other.share - one.share) };
  }

  #admit(metric: string): void {
    const { length } = this.#metrics;
    if (length >= JOINT.metricsMax || this.#metrics.includes(metric)) return;
    const grown = Array.from({ length: (length + 1) ** 2 }, (_, place) => {
      const [row, column] = [Math.floor(place / (length + 1)), place % (length + 1)];
      if (row < length && column < length) return this.#covariance[row * length + column] ?? 0;
      return row === column ? 1 : 0;
    });
    this.#metrics = [...this.#metrics, metric];
    this.#covariance = grown;
  }

  /** Covariance of those present, the part off the diagonal shrunk. */
  #block(present: readonly { index: number }[]): number[][] {
    return present.map(({ index: row }) =>
      present.map(({ index: column }) => {
        const value = this.#covariance[row * this.#metrics.length + column] ?? 0;
        return row === column ? Math.max(value, 0.01) + JOINT.shrinkage : value * (1 - JOINT.shrinkage);
      }),
    );
  }

  #learn(present: readonly { index: number; score: number }[]): void {
    this.#observations++;
    const share = Math.max(1 - 2 ** (-1 / JOINT.halfLife), 1 / (this.#observations + 1));
    for (const one of present) {
      for (const other of present) {
        const place = one.index * this.#metrics.length + other.index;
        const before = this.#covariance[place] ?? 0;
        this.#covariance[place] = before + share * (one.score * other.score - before);
      }
    }
  }

  snapshot(): JointState {
    const covariance = this.#covariance.map((value) => Number(value.toPrecision(4)));
    return { metrics: this.#metrics, covariance, observations: this.#observations, residuals: this.#scale.snapshot() };
  }

  restore({ metrics, covariance, observations, residuals }: JointState): void {
    this.#metrics = [...metrics];
    this.#covariance = [...covariance];
    this.#observations = observations;
    this.#scale.restore(residuals);
  }
}

function bounded(score: number): number {
  return Math.max(-JOINT.scoreMax, Math.min(JOINT.scoreMax, score));
}

/** Solves the symmetric positive definite system by Cholesky; a pivot that is not positive is taken as tiny. */
function solve(matrix: readonly (readonly number[])[], right: readonly number[]): number[] {
  const size = right.length;
  const lower: number[][] = [];
  for (let row = 0; row < size; row++) {
    const line: number[] = [];
    for (let column = 0; column <= row; column++) {
      let value = matrix[row]?.[column] ?? 0;
      for (let inner = 0; inner < column; inner++)
        value -= (line[inner] ?? 0) * ((column === row ? line : lower[column])?.[inner] ?? 0);
      line.push(column === row ? Math.sqrt(Math.max(value, 1e-9)) : value / (lower[column]?.[column] ?? 1));
    }
    lower.push(line);
  }
  const forward: number[] = [];
  for (let row = 0; row < size; row++) {
    let value = right[row] ?? 0;
    for (let inner = 0; inner < row; inner++) value -= (lower[row]?.[inner] ?? 0) * (forward[inner] ?? 0);
    forward.push(value / (lower[row]?.[row] ?? 1));
  }
  const solution = Array.from({ length: size }, () => 0);
  for (let row = size - 1; row >= 0; row--) {
    let value = forward[row] ?? 0;
    for (let inner = row + 1; inner < size; inner++) value -= (lower[inner]?.[row] ?? 0) * (solution[inner] ?? 0);
    solution[row] = value / (lower[row]?.[row] ?? 1);
  }
  return solution;
}
