/** Waits until nothing is under way in the swarm, so that what is measured next begins from the same state. */
import { until } from "../lab/await.ts";
import type { OpenLab } from "../lab/open-lab.ts";
import { LIMITS } from "../models/limits.ts";

/** The swarm's workflow knows of every member, and has no run under way. */
export async function awaitAtRest({ balancer, swarm, temporal }: OpenLab): Promise<void> {
  await until(
    async () => {
      const { endpoints, runs } = await temporal.status(swarm);
      const known = new Set(endpoints.map(({ endpoint }) => endpoint));
      const members = await balancer.health();
      return runs.length === 0 && members.every(({ endpoint }) => known.has(endpoint)) ? true : undefined;
    },
    { what: "the end of every run", timeoutMs: LIMITS.story.phaseTimeoutMs },
  );
}

/** Every member has its full weight, and every session lives on a member. */
export async function awaitFullService({ balancer }: OpenLab, want: { weight: number; sessions: number }): Promise<void> {
  await until(
    async () => {
      const members = await balancer.health();
      const names = new Set(members.map(({ endpoint }) => endpoint));
      const live = (await balancer.sessions()).filter(({ endpoint }) => names.has(endpoint));
      const served = new Set(live.map(({ publicKey }) => publicKey)).size;
      return served >= want.sessions && members.every(({ weight }) => weight === want.weight) ? true : undefined;
    },
    { what: "every session at full weight", timeoutMs: LIMITS.story.phaseTimeoutMs },
  );
}
