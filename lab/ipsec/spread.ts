/** Three gateways hold the sessions of several clients, and one of them is lost: its sessions go on at both others, by their old SPIs. */
import { setTimeout as delay } from "node:timers/promises";
import { IPSEC_BENCH } from "../../models/limits-ipsec.ts";
import { reserveShadows, safeShadows } from "../../models/shadow.ts";
import { ForesightPolicy } from "../../models/swarm-spec.ts";
import { type Client, MARKS, type Mark } from "./addresses.ts";
import { type Bench, begin, progress, replay, warmUp } from "./bench.ts";
import { clientsOf } from "./connections.ts";
import type { Spread } from "./figures.ts";
import type { SaPair, Takeover } from "./gateway.ts";
import { Pings } from "./wire.ts";

const POLICY = ForesightPolicy.parse({ mode: "act" });

/** A lost gateway's session: whose it is, its SAs, and who goes on with it. */
interface Lost {
  readonly client: Client;
  readonly pair: SaPair;
  readonly to: Mark;
}

export async function playSpread(bench: Bench, killed: Mark): Promise<Spread> {
  const { steering, gateways, wire } = bench;
  const clients = clientsOf("spread");
  const holderOf = (at: number): Mark => MARKS[at % MARKS.length] ?? 1;
  await begin(bench, "spread", holderOf);
  const held = new Map<Client, { readonly to: Mark; readonly pair: SaPair }>();
  for (const mark of MARKS) {
    const own = clients.filter((_, at) => holderOf(at) === mark);
    const pairs = await gateways[mark].newestPairs(own);
    for (const [client, pair] of pairs) held.set(client, { to: mark, pair });
  }
  await steering.steer(held);
  const lost = lostBy(killed, held);
  const before = wire.counts;
  const pings = new Map(clients.map((client) => [client, new Pings(client, IPSEC_BENCH.spreadPps)]));
  for (const mark of othersThan(killed))
    gateways[mark].preparePolicies(lost.filter(({ to }) => to === mark).map((one) => one.client));
  await warmUp(
    MARKS.map((mark) => ({
      gateway: gateways[mark],
      pairs: [...held.values()].flatMap(({ to, pair }) => (to === mark ? [pair] : [])),
    })),
  );
  await steering.cut(killed);
  await delay(IPSEC_BENCH.detectionMs);
  const detectedAtMs = Date.now();
  await steering.steer(new Map([...held, ...lost.map(({ client, pair, to }) => [client, { to, pair }] as const)]), killed);
  const fencedAtMs = Date.now();
  const takeovers = (await Promise.all(othersThan(killed).map((mark) => goOn(bench, lost, killed, mark, fencedAtMs)))).flat();
  const wentOn = takeovers.filter(({ outcome }) => outcome.kind === "go-on");
  const backAtMs = new Map<Client, number | undefined>();
  for (const { client } of lost)
    backAtMs.set(client, await pings.get(client)?.answeredAfter(detectedAtMs, IPSEC_BENCH.oldSpiMs));
  const frames = lost.flatMap(({ pair }) => wire.clientFrames(pair.inbound.spi, fencedAtMs));
  await replay(frames);
  const recoveries = [...backAtMs.values()].flatMap((atMs) => (atMs === undefined ? [] : [Math.round(atMs - detectedAtMs)]));
  const samePairs = await stillHeld(bench, lost);
  for (const mark of othersThan(killed)) await handshakes(bench, lost, mark);
  await delay(IPSEC_BENCH.afterMs);
  const lostPackets = new Map<Client, number>();
  for (const [client, one] of pings) lostPackets.set(client, await one.stop());
  const ofKilled = new Set(lost.map(({ client }) => client));
  const sumOf = (which: (client: Client) => boolean) =>
    [...lostPackets].reduce((sum, [client, count]) => sum + (which(client) ? count : 0), 0);
  const spread: Spread = {
    killed: nameOf(killed),
    sessions: lost.length,
    tookOver: wentOn.length,
    recovered: recoveries.length,
    sameSpis: samePairs,
    onGateways: Object.fromEntries(
      othersThan(killed).map((mark) => [nameOf(mark), lost.filter(({ to }) => to === mark).length]),
    ),
    recoverMsMax: recoveries.length === lost.length ? Math.max(...recoveries) : undefined,
    packetsLost: sumOf((client) => ofKilled.has(client)),
    packetsLostOfOthers: sumOf((client) => !ofKilled.has(client)),
    packets: wire.counts.packets - before.packets,
    reused: wire.counts.usedTwice - before.usedTwice,
    notGrowing: wire.counts.notGrowing - before.notGrowing,
    replayed: frames.length,
    replayAccepted: [...pings.values()].reduce((sum, { doubled }) => sum + doubled, 0),
    replayable: replayable(bench, wentOn, fencedAtMs),
  };
  progress(JSON.stringify(spread));
  return spread;
}

/** Its sessions, each with the shadow that was reserved for it. */
function lostBy(killed: Mark, held: ReadonlyMap<Client, { readonly to: Mark; readonly pair: SaPair }>): readonly Lost[] {
  const own = [...held].filter(([, { to }]) => to === killed);
  const safe = safeShadows(othersThan(killed).map(nameOf), [], POLICY, Date.now());
  const candidates = safe.map((endpoint) => ({ endpoint, zone: `zone of ${endpoint}`, room: own.length }));
  const keys = own.map(([{ name }]) => name);
  const shadows = reserveShadows(nameOf(killed), keys, candidates);
  return own.map(([client, { pair }]) => {
    const to = MARKS.find((mark) => nameOf(mark) === shadows.get(client.name));
    if (to === undefined) throw new Error(`${client.name} has no shadow`);
    return { client, pair, to };
  });
}

async function goOn(
  { steering, gateways, wire }: Bench,
  lost: readonly Lost[],
  killed: Mark,
  mark: Mark,
  fencedAtMs: number,
): Promise<readonly Takeover[]> {
  const own = lost.filter(({ to }) => to === mark);
  const from = gateways[killed];
  const lagMs = Math.max(IPSEC_BENCH.lagAllowedMs, ...wire.lagsMs(from.heard));
  const pairs = own.map(({ pair }) => pair);
  const takeovers = await gateways[mark].takeOver(from, pairs, { fencedAtMs, lagMs }, steering);
  await steering.wayBack(
    own.map(({ client }) => client),
    mark,
  );
  for (const { outcome } of takeovers)
    if (outcome.kind === "new-handshake") progress(`a new handshake: ${outcome.reason}, ${outcome.detail}`);
  return takeovers;
}

/** How many of the sessions have both SPIs that they had, at the gateway that took them over. */
async function stillHeld({ gateways }: Bench, lost: readonly Lost[]): Promise<number> {
  let count = 0;
  for (const mark of new Set(lost.map(({ to }) => to))) {
    const own = lost.filter(({ to }) => to === mark);
    const pairs = await gateways[mark].newestPairs(own.map(({ client }) => client));
    count += own.filter(({ client, pair }) => {
      const there = pairs.get(client);
      return there?.outbound.spi === pair.outbound.spi && there.inbound.spi === pair.inbound.spi;
    }).length;
  }
  return count;
}

async function handshakes({ gateways }: Bench, lost: readonly Lost[], mark: Mark): Promise<void> {
  const own = lost.filter(({ to }) => to === mark);
  await gateways[mark].authenticate("spread", new Map(own.map(({ client, pair }) => [client, pair])));
}

function replayable({ wire }: Bench, takeovers: readonly Takeover[], beforeMs: number): number {
  return takeovers.reduce((sum, { pair, outcome }) => {
    if (outcome.kind !== "go-on") return sum;
    return sum + wire.sentAbove(pair.inbound.spi, outcome.inboundSequence - outcome.replayWindow, beforeMs);
  }, 0);
}

function othersThan(killed: Mark): readonly Mark[] {
  return MARKS.filter((mark) => mark !== killed);
}

function nameOf(mark: Mark): string {
  return `gw-${mark}`;
}
