/** A link or a queue that goes bad: loss that rises along a parabola, from traces that no user feels to more than any can bear. */
import { type BuildUpOptions, Course, type FaultAtWork } from "./course.ts";
import { ChangingLoss } from "./ingress-loss.ts";

const LOSS_MAX = 0.6;
const STEP_MS = 1_000;
/** Steps of a build-up that is shorter than a few seconds. */
const STEPS_MIN = 20;

/** 0.2 % at about a seventeenth of the build-up, 1 % at an eighth, 60 % at its end and from then on. */
export function risingLoss({ endpoint, buildUpMs, onFailure }: BuildUpOptions): FaultAtWork {
  const course = new Course(buildUpMs);
  const stepMs = Math.min(STEP_MS, buildUpMs / STEPS_MIN);
  const loss = new ChangingLoss(endpoint, { stepMs, shareAt: () => LOSS_MAX * course.convex, onFailure });
  return { begun: Promise.resolve(), stop: () => loss.stop() };
}
