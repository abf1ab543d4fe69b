/**
 * From a probability of failure to acting or not: the expected cost must favour it even at the lower bound of the probability, twice
 * out of three looks, and what was begun is not begun again at once.
 */

export interface DecisionPolicy {
  /** Costs in any one unit: of the action, and of a failure that was not prevented. */
  readonly actionCost: number;
  readonly failureCost: number;
  /** Share of failures that the action prevents, 0..1. */
  readonly efficacy: number;
  /** Looks in which the bound must be exceeded, out of the last so many. */
  readonly confirmations: number;
  readonly looks: number;
  /** Once on, it stays on for this long at least; in the unit of `now`. */
  readonly dwell: number;
  /** Once off, it stays off for this long at least. */
  readonly coolDown: number;
}

/** An action that costs a tenth of a failure and prevents 9 in 10; times in steps of one look. */
export const DEFAULT_POLICY: DecisionPolicy = {
  actionCost: 1,
  failureCost: 10,
  efficacy: 0.9,
  confirmations: 2,
  looks: 3,
  dwell: 3,
  coolDown: 3,
};

export interface DecisionState {
  readonly isActing: boolean;
  /** When it last went on or off. */
  readonly changedAt: number | undefined;
  /** The latest looks, oldest first: whether the lower bound exceeded the threshold of entry. */
  readonly recent: readonly boolean[];
}

export const INITIAL_DECISION: DecisionState = { isActing: false, changedAt: undefined, recent: [] };

/** Leaving takes falling below this share of the threshold of entry. */
const LEAVE_SHARE = 0.5;

/**
 * The probability above which acting is cheaper than waiting: cost(action) / (cost(failure) x efficacy). 1 or more, or costs that are
 * no costs, mean never.
 */
export function actionThreshold({ actionCost, failureCost, efficacy }: DecisionPolicy): number {
  const gain = failureCost * Math.min(1, efficacy);
  const threshold = actionCost / gain;
  return gain > 0 && actionCost >= 0 && Number.isFinite(threshold) ? threshold : Number.POSITIVE_INFINITY;
}

/** One look. Without `carriesSignal` nothing is ever begun, and what is on ends as it may. */
export function decide(
  state: DecisionState,
  { probability, low }: { readonly probability: number; readonly low: number },
  policy: DecisionPolicy,
  now: number,
  carriesSignal = true,
): DecisionState {
  const entry = actionThreshold(policy);
  const isAbove = carriesSignal && low > entry;
  const recent = [...state.recent, isAbove].slice(-Math.max(1, policy.looks));
  const age = state.changedAt === undefined ? Number.POSITIVE_INFINITY : now - state.changedAt;
  if (state.isActing) {
    const isOver = !carriesSignal || !(probability >= entry * LEAVE_SHARE);
    return isOver && age >= policy.dwell ? { isActing: false, changedAt: now, recent } : { ...state, recent };
  }
  const isConfirmed = isAbove && recent.filter(Boolean).length >= policy.confirmations;
  return isConfirmed && age >= policy.coolDown ? { isActing: true, changedAt: now, recent } : { ...state, recent };
}
