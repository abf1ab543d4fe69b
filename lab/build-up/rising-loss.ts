/**
 * A link that goes bad: loss that grows by the same factor each second, as errors do when a signal fades into its noise, from traces
 * that no user feels to more than any can bear.
 */
import { type BuildUpOptions, Course, type FaultAtWork } from "./course.ts";
import { ChangingLoss } from "./ingress-loss.ts";

const LOSS_FIRST = 0.001;
const LOSS_MAX = 0.6;
const STEP_MS = 1_000;
/** Steps of a build-up that is shorter than a few seconds. */
const STEPS_MIN = 20;

/** 0.1 % at first, 1 % at about a third of the build-up, 10 % at three quarters, 60 % at its end and from then on. */
export function risingLoss({ runInside, buildUpMs, onFailure }: BuildUpOptions): FaultAtWork {
  const course = new Course(buildUpMs);
  const stepMs = Math.min(STEP_MS, buildUpMs / STEPS_MIN);
  const shareAt = () => LOSS_FIRST * (LOSS_MAX / LOSS_FIRST) ** course.linear;
  const loss = new ChangingLoss(runInside, { stepMs, shareAt, onFailure });
  return { begun: Promise.resolve(), stop: () => loss.stop() };
}
