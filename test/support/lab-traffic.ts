/** Traffic of a running lab that has to come through whole; where it does not, what the reflex did meanwhile is told. */
import assert from "node:assert/strict";
import type { Balancer } from "../../drivers/ports.ts";
import type { LabClient } from "../../lab/lab-client.ts";
import { type Felt, felt } from "../../lab/measure.ts";
import { settledTraffic } from "../../lab/trial.ts";

interface TrafficFromNow {
  /** Nothing that was sent from then on until this call was lost, and no TCP stream broke. Answers what clients felt. */
  assertWhole(): Promise<Felt>;
}

export async function trafficFromNow(lab: LabClient, balancer: Balancer): Promise<TrafficFromNow> {
  const kept = await balancer.events({ after: 0, waitMs: 0 });
  const after = kept.at(-1)?.seq ?? 0;
  await lab.resetTraffic();
  return {
    async assertWhole() {
      const cost = felt(await settledTraffic(lab));
      const events = await balancer.events({ after, waitMs: 0 });
      const told = events.filter(({ kind }) => kind !== "desired-applied").map(({ kind, text }) => `${kind}: ${text}`);
      assert.ok(cost.packetsSent > 0);
      assert.deepEqual([cost.packetsLost, cost.tcpBroken], [0, 0], `${JSON.stringify(cost)}\n${told.join("\n")}`);
      return cost;
    },
  };
}
