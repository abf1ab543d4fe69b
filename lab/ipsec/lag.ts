/** How far the word of a gateway's counters is behind the wire, with many sessions at rising rates, until the guests carry no more. */
import { setTimeout as delay } from "node:timers/promises";
import { IPSEC_BENCH } from "../../models/limits-ipsec.ts";
import { type Bench, begin, progress } from "./bench.ts";
import { clientsOf } from "./connections.ts";
import { type LoadStep, quantile } from "./figures.ts";
import { Pings } from "./wire.ts";

/** One gateway holds all sessions; each is answered at the same rate, so that both directions count. */
export async function playLoad(bench: Bench): Promise<readonly LoadStep[]> {
  const { steering, gateways } = bench;
  const clients = clientsOf("load");
  const holder = gateways[1];
  const steps: LoadStep[] = [];
  await begin(bench, "load", () => holder.mark);
  const held = await holder.newestPairs(clients);
  if (held.size < clients.length) throw new Error(`${clients.length - held.size} clients have no session`);
  await steering.steer(new Map([...held].map(([client, pair]) => [client, { to: holder.mark, pair }])));
  for (const pace of [undefined, IPSEC_BENCH.pace]) {
    if (pace !== undefined) await holder.setPace([...held.values()], pace);
    for (const pps of IPSEC_BENCH.loadPps) {
      const step = await playStep(bench, pace === undefined ? "sysctl" : "each SA", pps);
      steps.push(step);
      progress(JSON.stringify(step));
      if (step.carriedPps < step.offeredPps * IPSEC_BENCH.loadCarriedLeast) break;
    }
  }
  return steps;
}

async function playStep({ gateways, wire }: Bench, pace: LoadStep["pace"], pps: number): Promise<LoadStep> {
  const clients = clientsOf("load");
  const holder = gateways[1];
  const pings = clients.map((client) => new Pings(client, pps));
  await delay(IPSEC_BENCH.loadRampMs);
  const [from, beganAtMs] = [holder.heard.length, Date.now()];
  const [packetsBefore, eventsBefore] = [wire.counts.packets, holder.events];
  await delay(IPSEC_BENCH.loadMs);
  const seconds = (Date.now() - beganAtMs) / 1_000;
  const carriedPps = Math.round((wire.counts.packets - packetsBefore) / seconds);
  const eventsPps = Math.round((holder.events - eventsBefore) / seconds);
  await Promise.all(pings.map((one) => one.stop()));
  await delay(IPSEC_BENCH.loadRampMs);
  const heard = holder.heard.slice(from);
  const words = wire.lagsMs(heard);
  const behind = wire.coveredMs(heard, beganAtMs, beganAtMs + IPSEC_BENCH.loadMs);
  return {
    pace,
    sessions: clients.length,
    offeredPps: pps * clients.length,
    carriedPps,
    eventsPps,
    wordMsP50: quantile(words, 0.5),
    wordMsP99: quantile(words, 0.99),
    lagMsP50: quantile(behind, 0.5),
    lagMsP99: quantile(behind, 0.99),
    packets: behind.length,
  };
}
