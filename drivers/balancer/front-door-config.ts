/** How front doors are configured; apart from their drivers, whose clients are large. */
import { z } from "zod";
import { SwarmName } from "../../models/steering.ts";
import { AwsAccess } from "../aws/config.ts";

const dnsName = z
  .string()
  .max(253)
  .regex(/^([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}$/, "expected a name without a dot at its end");
const arn = (kind: string) =>
  z.string().regex(new RegExp(`^arn:aws[a-z-]*:elasticloadbalancing:[^:]+:\\d+:${kind}/`), `expected the ARN of a ${kind}`);

export const NlbConfig = z.strictObject({
  kind: z.literal("nlb"),
  swarm: SwarmName,
  ...AwsAccess.shape,
  listenerArn: arn("listener"),
  /** Target groups of type `ip`, empty at first and nobody else's: one for each weight that endpoints have at a time. */
  targetGroupArns: z.array(arn("targetgroup")).min(1).max(5),
  /** The endpoints' port of the tunnel. */
  targetPort: z.number().int().min(1).max(65_535),
});
export type NlbConfig = z.infer<typeof NlbConfig>;

export const Route53Config = z.strictObject({
  kind: z.literal("route53"),
  swarm: SwarmName,
  ...AwsAccess.shape,
  hostedZoneId: z.string().regex(/^[A-Z0-9]{1,32}$/, "expected an id, e.g. Z0123456789ABCDEFGHIJ"),
  /** What clients look up, in that zone. */
  name: z.string().regex(/^([a-z0-9_-]+\.)+[a-z0-9-]+$/, "expected a full name without a dot at its end"),
  /** Where clients reach this swarm; its VIP unless stated. */
  addresses: z.strictObject({ v4: z.ipv4().optional(), v6: z.ipv6().optional() }).default({}),
  ttlS: z.number().int().min(1).max(86_400).default(60),
  /** The swarm's endpoints at full weight, 100 each: what weight 255 stands for. The same unit in every swarm of the name. */
  capacity: z.number().int().min(1),
});
export type Route53Config = z.infer<typeof Route53Config>;

export const Rfc2136Config = z.strictObject({
  kind: z.literal("rfc2136"),
  swarm: SwarmName,
  /** The zone's primary server. */
  server: z.union([z.ipv4(), z.ipv6(), z.hostname()]),
  port: z.number().int().min(1).max(65_535).default(53),
  zone: dnsName,
  /** What clients look up, in that zone. */
  name: dnsName,
  /** Where clients reach this swarm; its VIP unless stated. */
  addresses: z.strictObject({ v4: z.ipv4().optional(), v6: z.ipv6().optional() }).default({}),
  ttlS: z.number().int().min(1).max(86_400).default(60),
  key: z.strictObject({
    name: dnsName,
    algorithm: z.enum(["hmac-sha256", "hmac-sha512"]).default("hmac-sha256"),
    /** File that holds the key in base64, mode 0600. */
    secretFile: z.string().min(1),
  }),
});
export type Rfc2136Config = z.infer<typeof Rfc2136Config>;

export const FrontDoorConfig = z.discriminatedUnion("kind", [NlbConfig, Route53Config, Rfc2136Config]);
export type FrontDoorConfig = z.infer<typeof FrontDoorConfig>;
