/** What a health monitor has learned, as it is stored: data that is checked before it is believed. */
import { z } from "zod";
import { Case } from "./case.ts";

const Numbers = z.array(z.number()).readonly();
const View = z.strictObject({ residuals: Numbers, values: z.array(Numbers).readonly() });
const Detector = z.strictObject({ views: z.array(View).readonly() });

const Expectation = z.strictObject({
  seen: z.number(),
  weight: z.number(),
  mean: z.number(),
  squares: z.number(),
  waiting: Numbers,
});

const Series = z.strictObject({
  fast: Detector,
  slow: Detector,
  standing: View,
  first: Expectation.optional(),
  firstStanding: Expectation.optional(),
  recent: Numbers,
  bucket: z.strictObject({ index: z.number(), sum: z.number(), count: z.number() }),
  slowSurprise: z.number(),
});

const Joint = z.strictObject({
  metrics: z.array(z.string()).readonly(),
  covariance: Numbers,
  observations: z.number(),
  residuals: Numbers,
});

export const HealthState = z.strictObject({
  version: z.literal(2),
  seenAtMs: z.number(),
  endpoints: z.array(
    z.strictObject({
      endpoint: z.string(),
      seenAtMs: z.number(),
      joint: Joint,
      jointVotes: Numbers,
      series: z.array(z.strictObject({ name: z.string(), votes: Numbers, seenAtMs: z.number(), state: Series })),
    }),
  ),
  cases: z.array(z.strictObject({ key: z.string(), case: Case })),
});
export type HealthState = z.infer<typeof HealthState>;
