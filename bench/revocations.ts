/** Revocations under traffic: how soon a client is out, and what an endpoint's costs the clients that were on it. */
import { felt } from "../lab/measure.ts";
import { awaitGone, awaitWhole, busiestEndpoint, sessionsOf, settledTraffic } from "../lab/trial.ts";
import type { BenchLab } from "./with-lab.ts";

/** One client. */
export interface ClientRevocation {
  /** From the order until no session of it was left, on the slowest endpoint; undefined: one could not be asked. */
  readonly outMsMax: number | undefined;
  readonly endpoints: number;
  /** Packets of it that came through after that. */
  readonly packetsAfter: number;
}

/** One endpoint, from the order until another one serves in its place. */
export interface EndpointRevocation {
  readonly endpoint: string;
  /** On it when it was ordered out. */
  readonly sessions: number;
  /** From the order until the balancer led nothing to it any more; undefined: not within the time that is waited for it. */
  readonly outMs: number | undefined;
  readonly packetsSent: number;
  readonly packetsLost: number;
  readonly tcpBroken: number;
  readonly longestGapMs: number;
}

export interface SwarmSize {
  readonly endpoints: number;
  readonly ghosts: number;
}

/** How long a revoked client is listened for. */
const LISTEN_MS = 5_000;
const ORDER = { by: "bench", reason: "to measure it" };

export async function revokeEndpoints(lab: BenchLab, size: SwarmSize, count: number): Promise<readonly EndpointRevocation[]> {
  const figures: EndpointRevocation[] = [];
  for (let n = 1; n <= count; n += 1) figures.push(await revokeBusiest(lab, size));
  return figures;
}

async function revokeBusiest({ open }: BenchLab, { endpoints: count, ghosts }: SwarmSize): Promise<EndpointRevocation> {
  const { balancer, lab, swarm, temporal } = open;
  await awaitWhole(open, { count, ghosts });
  const endpoint = await busiestEndpoint(balancer);
  const sessions = (await sessionsOf(balancer, endpoint)).length;
  await lab.resetTraffic();
  const { outAfterMs: outMs } = await temporal.revokeEndpoint({ swarm, endpoint, ...ORDER });
  await awaitGone(open, endpoint);
  await awaitWhole(open, { count, ghosts });
  const { longestGapMs, packetsLost, packetsSent, tcpBroken } = felt(await settledTraffic(lab));
  return { endpoint, sessions, outMs, packetsSent, packetsLost, tcpBroken, longestGapMs };
}

export async function revokeOneClient({ open }: BenchLab): Promise<ClientRevocation> {
  const [client] = (await open.lab.describe()).peers;
  const publicKey = client?.publicKey ?? "";
  const { endpoints } = await open.temporal.revokeClients({ swarm: open.swarm, clients: [publicKey], ...ORDER });
  const times = endpoints.flatMap(({ outAfterMs }) => outAfterMs ?? []);
  await open.lab.resetTraffic();
  await new Promise((resolve) => setTimeout(resolve, LISTEN_MS));
  const { clients } = await settledTraffic(open.lab);
  const packetsAfter = clients.find((one) => one.publicKey === publicKey)?.up.received ?? 0;
  const isWhole = times.length === endpoints.length;
  return { outMsMax: isWhole ? Math.max(...times) : undefined, endpoints: endpoints.length, packetsAfter };
}
