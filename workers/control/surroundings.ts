/** What a control worker acts on besides its database and Temporal: where machines come from, and how clients are brought to them. */
import { z } from "zod";
import { FrontDoorConfig } from "../../drivers/balancer/front-door-config.ts";
import { withDoorNotices, withFrontDoors } from "../../drivers/balancer/front-doors.ts";
import { Ec2Config } from "../../drivers/hypervisor/ec2/config.ts";
import { netnsHypervisor } from "../../drivers/hypervisor/netns.ts";
import type { Balancer, FrontDoor, Hypervisor } from "../../drivers/ports.ts";

export const SURROUNDINGS = {
  /** Where machines come from; absent: the lab, at `sockets.hypervisor`. */
  hypervisor: Ec2Config.optional(),
  /** What brings clients to swarms from outside: kept in line with the balancer. */
  frontDoors: z.array(FrontDoorConfig).max(64).default([]),
};

interface SurroundingsConfig {
  readonly hypervisor?: Ec2Config | undefined;
  readonly frontDoors: readonly FrontDoorConfig[];
  readonly sockets: { readonly hypervisor: string };
}

interface Surroundings {
  readonly hypervisor: Hypervisor;
  readonly balancer: Balancer;
  close(): Promise<void>;
}

export async function openSurroundings(config: SurroundingsConfig, reflex: Balancer): Promise<Surroundings> {
  const hypervisor = await openHypervisor(config);
  const doors = await Promise.all(config.frontDoors.map(openDoor));
  const close = async () => void (await Promise.all([hypervisor, ...doors].map((one) => one.close())));
  if (doors.length === 0) return { hypervisor, balancer: reflex, close };
  return { hypervisor: withDoorNotices(hypervisor, reflex, doors), balancer: withFrontDoors(reflex, doors), close };
}

// AWS's clients are read only where they are used: EC2's alone takes a second and 90 MB.

async function openHypervisor({ hypervisor, sockets }: SurroundingsConfig): Promise<Hypervisor & { close(): Promise<void> }> {
  if (hypervisor === undefined) return netnsHypervisor({ socketPath: sockets.hypervisor });
  const { ec2Hypervisor } = await import("../../drivers/hypervisor/ec2/ec2.ts");
  return ec2Hypervisor(hypervisor);
}

async function openDoor(config: FrontDoorConfig): Promise<FrontDoor & { close(): Promise<void> }> {
  if (config.kind === "nlb") return (await import("../../drivers/balancer/nlb.ts")).nlbFrontDoor(config);
  if (config.kind === "rfc2136") return (await import("../../drivers/balancer/rfc2136.ts")).rfc2136FrontDoor(config);
  return (await import("../../drivers/balancer/route53.ts")).route53FrontDoor(config);
}
