/** A balancer with front doors before it: what it is told, they are told after it, so that nobody is sent where nobody is expected. */
import type { Balancer, FrontDoor, Hypervisor } from "../ports.ts";

export function withFrontDoors(balancer: Balancer, doors: readonly FrontDoor[]): Balancer {
  return {
    desired: () => balancer.desired(),
    health: () => balancer.health(),
    sessions: () => balancer.sessions(),
    events: (request) => balancer.events(request),
    apply: async (request) => {
      await balancer.apply(request);
      // What it holds, not what was asked for: a key that was carried out long ago is carried out no more.
      const held = await balancer.desired();
      if (held !== undefined) for (const door of doors) await door.apply(held);
    },
  };
}

/** A hypervisor that also tells what front doors find out of its machines. A door that does not answer has said nothing. */
export function withDoorNotices(
  hypervisor: Hypervisor,
  balancer: Pick<Balancer, "desired">,
  doors: readonly FrontDoor[],
): Hypervisor {
  return {
    ...hypervisor,
    notices: async (swarm) => {
      const own = (await hypervisor.notices?.(swarm)) ?? [];
      const state = await balancer.desired();
      if (state?.swarm !== swarm) return own;
      const said = await Promise.all(doors.map(async (door) => await door.notices?.(state).catch(() => [])));
      return [...own, ...said.flatMap((notices) => notices ?? [])];
    },
  };
}
