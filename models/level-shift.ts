/**
 * A step in a series, told from growth. Sessions that come over from another machine at once are no slope: nothing says that the next
 * minutes bring as many again.
 */
import type { Point } from "./trend.ts";

/** Values on either side of a step, at least. */
const SIDE_MIN = 3;
/**
 * A line with a step has to leave so much less of the squared distance than a line alone: two parameters more, by Schwarz's criterion for
 * twelve pieces, which is what a trend is drawn through (trend.ts). Neighbouring values of a load are too alike to count as evidence each.
 */
const LEFT_MAX = 12 ** (-2 / 12);

/** A line that leaves no more of the squared distance than this share is the line itself. */
const EXACT = 1e-9;

/**
 * The same values with those before the step raised or lowered to where it leads; the same list where there is no step, or where a bend
 * explains the values as well: what begins to grow is no step. In the order of time; scaling or shifting the values does the same to the result.
 */
export function withoutStep(points: readonly Point[]): readonly Point[] {
  const known = points.filter(({ value }) => Number.isFinite(value));
  const first = known[0];
  const last = known.at(-1);
  if (first === undefined || last === undefined || known.length < 4 * SIDE_MIN || last.atMs <= first.atMs) return points;
  const spanMs = last.atMs - first.atMs;
  const sums = new Sums(known.map(({ atMs, value }) => ({ t: (atMs - first.atMs) / spanMs, y: value - first.value })));
  const line = sums.lineLeft();
  let best = { left: Number.POSITIVE_INFINITY, at: 0, jump: 0 };
  if (line <= EXACT * sums.spread()) return points;
  let bend = line;
  for (let at = SIDE_MIN; at <= known.length - SIDE_MIN; at++) {
    const step = sums.stepAt(at);
    if (step.left < best.left) best = { ...step, at };
    bend = Math.min(bend, sums.bendLeft(at));
  }
  if (!(best.left < LEFT_MAX * line && best.left < bend)) return points;
  const atMs = known[best.at]?.atMs ?? last.atMs;
  return points.map((point) => (point.atMs < atMs ? { ...point, value: point.value + best.jump } : point));
}

/** Of one part of the values: how many, and the sums of t, y, their squares and product. */
interface Moments {
  readonly n: number;
  readonly t: number;
  readonly y: number;
  readonly tt: number;
  readonly ty: number;
  readonly yy: number;
}

/** Least squares of a line, a line with a step and a line with a bend, each at once from sums over the values before a place. */
class Sums {
  readonly #before: readonly Moments[];
  readonly #all: Moments;
  readonly #t: readonly number[];

  constructor(values: readonly { readonly t: number; readonly y: number }[]) {
    let sum: Moments = { n: 0, t: 0, y: 0, tt: 0, ty: 0, yy: 0 };
    const before = [sum];
    for (const { t, y } of values) {
      sum = { n: sum.n + 1, t: sum.t + t, y: sum.y + y, tt: sum.tt + t * t, ty: sum.ty + t * y, yy: sum.yy + y * y };
      before.push(sum);
    }
    this.#before = before;
    this.#all = sum;
    this.#t = values.map(({ t }) => t);
  }

  /** Squared distance from the mean. */
  spread(): number {
    return centred(this.#all).yy;
  }

  /** What a line leaves of the squared distance. */
  lineLeft(): number {
    const { tt, ty, yy } = centred(this.#all);
    return Math.max(0, yy - (tt > 0 ? (ty * ty) / tt : 0));
  }

  /** With one slope on both sides and a jump between them, before value `at`. */
  stepAt(at: number): { left: number; jump: number } {
    const [old, fresh] = this.#parts(at);
    const [a, b] = [centred(old), centred(fresh)];
    const tt = a.tt + b.tt;
    const slope = tt > 0 ? (a.ty + b.ty) / tt : 0;
    const left = Math.max(0, a.yy + b.yy - slope * (a.ty + b.ty));
    return { left, jump: fresh.y / fresh.n - old.y / old.n - slope * (fresh.t / fresh.n - old.t / old.n) };
  }

  /** With another slope from value `at` on, and no jump. */
  bendLeft(at: number): number {
    const [, { n, t, y, tt, ty }] = this.#parts(at);
    const knee = this.#t[at] ?? 0;
    // The bend's own regressor, max(0, t - knee), less what mean and slope say of it already.
    const all = this.#all;
    const line = centred(all);
    const hinge = t - n * knee;
    const hingeHinge = tt - 2 * knee * t + n * knee * knee - (hinge * hinge) / all.n;
    const hingeT = tt - knee * t - (hinge * all.t) / all.n;
    const hingeY = ty - knee * y - (hinge * all.y) / all.n;
    const own = hingeHinge - (line.tt > 0 ? (hingeT * hingeT) / line.tt : 0);
    const also = hingeY - (line.tt > 0 ? (hingeT * line.ty) / line.tt : 0);
    const left = this.lineLeft();
    return own > Number.EPSILON ? Math.max(0, left - (also * also) / own) : left;
  }

  #parts(at: number): readonly [Moments, Moments] {
    const old = this.#before[at] as Moments;
    const all = this.#all;
    const fresh = {
      n: all.n - old.n,
      t: all.t - old.t,
      y: all.y - old.y,
      tt: all.tt - old.tt,
      ty: all.ty - old.ty,
      yy: all.yy - old.yy,
    };
    return [old, fresh];
  }
}

/** About the means. */
function centred({ n, t, y, tt, ty, yy }: Moments): { tt: number; ty: number; yy: number } {
  return { tt: Math.max(0, tt - (t * t) / n), ty: ty - (t * y) / n, yy: Math.max(0, yy - (y * y) / n) };
}
