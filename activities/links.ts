/**
 * How an endpoint is reached, whether it is a member of the balancer already or a machine that joins.
 */
import type { EndpointAgent } from "../drivers/ports.ts";
import { ForeshiftError } from "../models/errors.ts";
import type { MemberLink } from "../models/steering.ts";
import type { ActivityDeps } from "./deps.ts";

/** UNKNOWN_ENDPOINT when neither the balancer nor the hypervisor knows it. */
export async function linkOf(deps: ActivityDeps, swarm: string, endpoint: string): Promise<MemberLink> {
  const desired = await deps.balancer.desired();
  const member = desired?.members.find((candidate) => candidate.endpoint === endpoint);
  if (member !== undefined) return member.link;
  const machines = await deps.hypervisor.list(swarm);
  const machine = machines.find((candidate) => candidate.name === endpoint && candidate.state !== "gone");
  if (machine === undefined) throw new ForeshiftError("UNKNOWN_ENDPOINT", { value: endpoint });
  return machine.link;
}

export async function agentFor(deps: ActivityDeps, swarm: string, endpoint: string): Promise<EndpointAgent> {
  return deps.agentOf(await linkOf(deps, swarm, endpoint));
}
