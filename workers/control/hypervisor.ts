/** Which hypervisor a control worker has, by its configuration. */
import type { Ec2Config } from "../../drivers/hypervisor/ec2/config.ts";
import { netnsHypervisor } from "../../drivers/hypervisor/netns.ts";
import type { Hypervisor } from "../../drivers/ports.ts";

export interface HypervisorChoice {
  readonly hypervisor?: Ec2Config | undefined;
  readonly sockets: { readonly hypervisor: string };
}

/** The client of EC2 is read only where it is used: it takes a second and 90 MB. */
export async function openHypervisor({
  hypervisor,
  sockets,
}: HypervisorChoice): Promise<Hypervisor & { close(): Promise<void> }> {
  if (hypervisor === undefined) return netnsHypervisor({ socketPath: sockets.hypervisor });
  const { ec2Hypervisor } = await import("../../drivers/hypervisor/ec2/ec2.ts");
  return ec2Hypervisor(hypervisor);
}
