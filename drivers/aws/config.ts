/** Where AWS's API is reached. Credentials come from where the SDK looks for them: the instance's role in production. */
import { z } from "zod";

export const AwsAccess = z.strictObject({
  region: z.string().regex(/^[a-z]{2}(-[a-z]+)+-\d$/, "expected a region, e.g. eu-west-1"),
  /** Instead of the public API: an interface endpoint of the VPC. */
  endpoint: z.url({ protocol: /^https?$/ }).optional(),
});
export type AwsAccess = z.infer<typeof AwsAccess>;
