/** Which model is in use: a promotion puts one on top of those before it, a rollback takes the topmost away. */

export interface ModelChange {
  readonly kind: "promote" | "rollback";
  /** Of a rollback: the model that was taken away. */
  readonly model: string;
}

/** The models in the order they would be fallen back to, the one in use last. */
export function standingModels(history: readonly ModelChange[]): readonly string[] {
  const standing: string[] = [];
  for (const { kind, model } of history) {
    if (kind === "promote") standing.push(model);
    else if (standing.at(-1) === model) standing.pop();
  }
  return standing;
}

/** What a challenger was measured on: for champion and challenger the same rows, the newest, which neither was trained on. */
export interface Trial {
  readonly ap: number;
  readonly brier: number;
  readonly calibrationError: number;
  readonly carriesSignal: boolean;
}

/** A better ranking must be better by this much to be worth a change, … */
const AP_GAIN_MIN = 0.005;
/** … and said probabilities may be this far from what came, in the mean over the rows. */
const CALIBRATION_ERROR_MAX = 0.05;

/** Whether the challenger is better and calibrated, and in words why or why not. */
export function weighChallenger(champion: Trial | undefined, challenger: Trial): { promote: boolean; reason: string } {
  const no = (reason: string) => ({ promote: false, reason });
  if (!challenger.carriesSignal) return no("the telemetry carries no signal");
  if (!(challenger.calibrationError <= CALIBRATION_ERROR_MAX)) {
    return no(
      `its probabilities are ${challenger.calibrationError.toFixed(3)} off, at most ${CALIBRATION_ERROR_MAX} is allowed`,
    );
  }
  if (champion === undefined) return { promote: true, reason: "there is no model yet" };
  const precision = `average precision ${challenger.ap.toFixed(3)} against ${champion.ap.toFixed(3)}`;
  if (!(challenger.ap >= champion.ap + AP_GAIN_MIN)) return no(`${precision}: not better by ${AP_GAIN_MIN}`);
  if (!(challenger.brier <= champion.brier)) {
    return no(`${precision}, but its squared error grew from ${champion.brier.toFixed(4)} to ${challenger.brier.toFixed(4)}`);
  }
  return { promote: true, reason: precision };
}
