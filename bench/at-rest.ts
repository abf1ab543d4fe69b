/** Waits until every session is served in full, so that what is measured next begins from the same state. */
import { until } from "../lab/await.ts";
import type { OpenLab } from "../lab/open-lab.ts";
import { LIMITS } from "../models/limits.ts";

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
