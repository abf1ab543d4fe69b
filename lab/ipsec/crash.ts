/** One client's gateway is lost, or left on purpose, or nobody helps: what each costs under traffic. */
import { setTimeout as delay } from "node:timers/promises";
import { addStateLine, deleteStateLine, parseXfrmStates, type XfrmState } from "../../drivers/tunnel/xfrm-state.ts";
import { IPSEC_BENCH } from "../../models/limits-ipsec.ts";
import { CLIENTS, type Client } from "./addresses.ts";
import { type Bench, begin, progress, replay, warmUp } from "./bench.ts";
import type { Crash, Move, Stock, Variant } from "./figures.ts";
import type { Gateway, SaPair } from "./gateway.ts";
import { script, scriptWithInput } from "./guests.ts";
import { Pings } from "./wire.ts";

const [CLIENT] = CLIENTS as readonly [Client, ...Client[]];
const WORD = 2 ** 32;

export async function playCrash(bench: Bench, variant: Variant, holder: Gateway, shadow: Gateway): Promise<Crash> {
  const { steering, wire } = bench;
  const pair = await holder.newestPair(CLIENT);
  await steering.steer(new Map([[CLIENT, { to: holder.mark, pair }]]));
  if (variant === "esn") await nearTheWordsEnd(bench, holder, pair);
  shadow.preparePolicies([CLIENT]);
  const before = wire.counts;
  const pings = new Pings(CLIENT);
  await warmUp([{ gateway: holder, pairs: [pair] }]);
  await steering.cut(holder.mark);
  await delay(IPSEC_BENCH.detectionMs);
  const detectedAtMs = Date.now();
  await steering.steer(new Map([[CLIENT, { to: shadow.mark, pair }]]), holder.mark);
  const fencedAtMs = Date.now();
  const lagMs = Math.max(IPSEC_BENCH.lagAllowedMs, ...wire.lagsMs(holder.heard));
  const takeovers = await shadow.takeOver(holder, [pair], { fencedAtMs, lagMs }, steering);
  await steering.wayBack([CLIENT], shadow.mark);
  const outcome = takeovers[0]?.outcome;
  if (outcome?.kind === "new-handshake") progress(`a new handshake: ${outcome.reason}, ${outcome.detail}`);
  const plan = outcome?.kind === "go-on" ? outcome : undefined;
  const backAtMs = await pings.answeredAfter(detectedAtMs, plan === undefined ? 0 : IPSEC_BENCH.oldSpiMs);
  await shadow.authenticate(variant, new Map([[CLIENT, pair]]));
  const anew = await shadow.newestPair(CLIENT);
  await steering.steer(new Map([[CLIENT, { to: shadow.mark, pair: anew }]]), holder.mark);
  const answeredAtMs = backAtMs ?? (await pings.answeredAfter(detectedAtMs, IPSEC_BENCH.recoverMsMax));
  const replayed = wire.clientFrames(pair.inbound.spi, fencedAtMs);
  await replay(replayed);
  await delay(IPSEC_BENCH.afterMs);
  const packetsLost = await pings.stop();
  const refused = await shadow.refusals();
  const floor = plan === undefined ? Number.MAX_SAFE_INTEGER : plan.inboundSequence - plan.replayWindow;
  if (plan !== undefined) shadow.forget(pair);
  return {
    variant,
    recoverMs: answeredAtMs === undefined ? undefined : Math.round(answeredAtMs - detectedAtMs),
    takeoverMs: fencedAtMs - detectedAtMs,
    packetsLost,
    wentOnWithoutRekey: plan !== undefined && backAtMs !== undefined,
    outboundJump: plan?.outboundJump ?? 0,
    inboundJump: plan?.inboundJump ?? 0,
    replayable: wire.sentAbove(pair.inbound.spi, floor, fencedAtMs),
    replayed: replayed.length,
    replayAccepted: pings.doubled,
    // An old extended number is taken for one of the next 2^32, and fails its check.
    refusedByShadow: refused.replayed + refused.failed,
    newSpi: anew.outbound.spi !== pair.outbound.spi,
    packets: wire.counts.packets - before.packets,
    packetsInUdp: wire.counts.inUdp - before.inUdp,
    packetsBeyondWord: wire.counts.beyondWord - before.beyondWord,
  };
}

/**
 * The session as if it had been used for long: the client's numbers pass 2^32 shortly before the crash, and the gateway's in the jump of
 * the takeover. Both ends' SAs are those that they had, at other numbers.
 */
async function nearTheWordsEnd({ guests }: Bench, holder: Gateway, pair: SaPair): Promise<void> {
  const [byGateway, byClient] = [WORD - IPSEC_BENCH.esnOutboundLeft, WORD - IPSEC_BENCH.esnInboundLeft];
  await holder.setCounters(pair, byGateway, byClient);
  // The client names its policies' SAs by a number of its own, so that its SAs are read there.
  const own = parseXfrmStates(await script(guests.clients, "ip -s xfrm state"));
  const half = (spi: number, counters: Partial<XfrmState>) =>
    own
      .filter((state) => state.spi === spi)
      .flatMap((state) => [deleteStateLine(state), addStateLine({ ...state, ...counters })]);
  const lines = [
    ...half(pair.outbound.spi, { inboundSequence: byGateway }),
    ...half(pair.inbound.spi, { outboundSequence: byClient }),
  ];
  await scriptWithInput(guests.clients, "ip -batch -", `${lines.join("\n")}\n`);
}

/** The new endpoint makes an IKE SA of its own first; old packets go by the old SPIs to the old endpoint until none are left. */
export async function playMove({ steering }: Bench, holder: Gateway, shadow: Gateway): Promise<Move> {
  const pair = await holder.newestPair(CLIENT);
  await steering.steer(new Map([[CLIENT, { to: holder.mark, pair }]]));
  const pings = new Pings(CLIENT);
  await delay(IPSEC_BENCH.warmUpMs);
  await steering.steer(new Map([[CLIENT, { to: holder.mark, pair, ikeTo: shadow.mark }]]));
  await shadow.hold();
  await shadow.authenticate("plain", new Map([[CLIENT, pair]]));
  await steering.wayBack([CLIENT], shadow.mark);
  await shadow.release();
  await delay(IPSEC_BENCH.afterMs);
  await holder.terminate(CLIENT);
  await steering.steer(new Map([[CLIENT, { to: shadow.mark, pair: await shadow.newestPair(CLIENT) }]]));
  await delay(IPSEC_BENCH.afterMs);
  return { packetsLost: await pings.stop() };
}

/** What a client costs that nobody helps: its gateway is gone, and its packets go to another that knows nothing of it. */
export async function playStock(bench: Bench, kind: Stock["kind"]): Promise<Stock> {
  await begin(bench, kind === "fastest" ? "fastest" : "plain", () => 1);
  const { steering, gateways } = bench;
  const [holder, other] = [gateways[1], gateways[2]];
  await steering.steer(new Map([[CLIENT, { to: holder.mark, pair: await holder.newestPair(CLIENT) }]]));
  const pings = new Pings(CLIENT);
  await delay(IPSEC_BENCH.warmUpMs);
  await steering.cut(holder.mark);
  await delay(IPSEC_BENCH.detectionMs);
  const detectedAtMs = Date.now();
  await steering.steer(new Map([[CLIENT, { to: other.mark }]]), holder.mark);
  await steering.wayBack([CLIENT], other.mark);
  const watchedMs = IPSEC_BENCH.stockWatchMs;
  const answeredAtMs = await pings.answeredAfter(detectedAtMs, watchedMs);
  await pings.stop();
  const recoverMs = answeredAtMs === undefined ? undefined : Math.round(answeredAtMs - detectedAtMs);
  progress(JSON.stringify({ kind, recoverMs }));
  return { kind, recoverMs, watchedMs };
}
