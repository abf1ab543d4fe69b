/** How machines are had from EC2. What they boot from is in the launch template: image, security groups, instance profile, user data. */
import { z } from "zod";
import { AwsAccess } from "../../aws/config.ts";

const device = z
  .string()
  .regex(/^[a-z][a-z0-9.-]{0,14}$/, "expected an interface: 1 to 15 of a-z, 0-9, '.' and -, a letter first");

export const Ec2Config = z.strictObject({
  kind: z.literal("ec2"),
  ...AwsAccess.shape,
  launchTemplate: z.strictObject({
    id: z.string().regex(/^lt-[0-9a-f]+$/, "expected lt-…"),
    version: z
      .string()
      .regex(/^(\d+|\$Default|\$Latest)$/, "expected a number, $Default or $Latest")
      .default("$Default"),
  }),
  /** One in each zone: machines are spread over them. */
  subnets: z
    .array(
      z.strictObject({
        id: z.string().regex(/^subnet-[0-9a-f]+$/, "expected subnet-…"),
        /** Interfaces of the balancer's and the router's host that lead to its machines on layer 2 (an ENI there, or a tunnel). */
        device,
        returnDevice: device,
      }),
    )
    .min(1)
    .max(16),
  /** The first that is to be had, in any of the zones, is taken. */
  instanceTypes: z
    .array(z.string().regex(/^[a-z0-9-]+\.[a-z0-9-]+$/, "expected a type, e.g. c7gn.large"))
    .min(1)
    .max(16),
  /** `spot`: Spot where there is some, else On-Demand. A ghost is On-Demand always: Spot instances cannot be stopped at will. */
  market: z.enum(["on-demand", "spot"]).default("on-demand"),
  /** How a ghost waits: `stop` boots anew when it is woken; `hibernate` has its memory on its disk, which must be encrypted and large enough. */
  ghosts: z.enum(["stop", "hibernate"]).default("stop"),
  /**
   * When a machine counts as booted: once its agent takes connections, which the control worker must be able to make; once EC2's own status
   * checks passed, which takes minutes; or in state `running`, when its operating system has not even begun.
   */
  booted: z.enum(["agent", "status-checks", "running"]).default("agent"),
  /** The agent's port on the machine's private address. */
  agentPort: z.number().int().min(1).max(65_535),
  /** A machine's probe peer has the address in here that its private address has in the VPC: at least as large as the VPC's range. */
  probeInnerRange: z.cidrv4(),
});
export type Ec2Config = z.infer<typeof Ec2Config>;
