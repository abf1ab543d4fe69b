/**
 * Runs inside namespaces of its own (lab/enclosure.ts): a client with stock strongSwan in one guest, two gateways in another, and the
 * balancer's real rules between them. Plays crashes, planned moves and stock behaviour under traffic, and prints what they cost, as JSON.
 */
import { createSocket } from "node:dgram";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { messageOf } from "../../models/errors.ts";
import { IPSEC_BENCH } from "../../models/limits-ipsec.ts";
import { CLIENT, EVENTS_PORT, hostLinkAgain, hostNetwork, innerAddress, REPLAY_PORT } from "./addresses.ts";
import { type Crash, figures, type Move, type Stock } from "./figures.ts";
import { Gateway, refusalsIn, type SaPair } from "./gateway.ts";
import { bootGuests, connectClient, type Guests, script } from "./guests.ts";
import { Steering } from "./steering.ts";
import { Pings, Wire } from "./wire.ts";

const Options = z.object({ image: z.string(), crashes: z.number(), moves: z.number(), stock: z.boolean() });

interface Bench {
  readonly guests: Guests;
  readonly steering: Steering;
  readonly gateways: readonly [Gateway, Gateway];
  readonly wire: Wire;
}

const options = Options.parse(JSON.parse(process.argv[2] ?? ""));
const folder = await mkdtemp(join(tmpdir(), "foreshift-ipsec-"));
try {
  process.stdout.write(`${JSON.stringify(await play())}\n`);
} catch (thrown) {
  progress(messageOf(thrown));
  process.exitCode = 1;
} finally {
  await rm(folder, { recursive: true, force: true });
}
// QEMU ends with this process.
process.exit();

async function play(): Promise<object> {
  progress("booting a client and two gateways");
  const guests = await bootGuests(options.image, folder);
  const steering = new Steering();
  await steering.shell(hostNetwork());
  const gateways = [new Gateway(guests.gateways, 1), new Gateway(guests.gateways, 2)] as const;
  listen(gateways);
  const bench: Bench = { guests, steering, gateways, wire: new Wire() };
  await begin(bench, "default");
  const crashes: Crash[] = [];
  const moves: Move[] = [];
  let [holder, shadow] = gateways;
  for (let n = 0; n < options.crashes + options.moves; n += 1) {
    const isCrash = n < options.crashes;
    if (isCrash) crashes.push(await playCrash(bench, holder, shadow));
    else moves.push(await playMove(bench, holder, shadow));
    progress(JSON.stringify(isCrash ? crashes.at(-1) : moves.at(-1)));
    await steering.shell(hostLinkAgain(holder.mark));
    await holder.startAnew();
    [holder, shadow] = [shadow, holder];
  }
  const refused = await refusedByClient(guests);
  const heard = gateways.flatMap((gateway) => bench.wire.lagsMs(gateway.heard));
  const wire = { packets: bench.wire.packets, notGrowing: bench.wire.notGrowing, usedTwice: bench.wire.usedTwice };
  bench.wire.stop();
  const stock = options.stock ? [await playStock(bench, "fastest"), await playStock(bench, "default")] : [];
  return figures({ crashes, moves, stock, lagsMs: heard, wire, refused });
}

/** Gateways as after a boot, and the client's session with the first. */
async function begin({ guests, steering, gateways }: Bench, kind: "default" | "fastest"): Promise<void> {
  const [first, second] = gateways;
  for (const { mark } of gateways) await steering.shell(hostLinkAgain(mark));
  await steering.steer({ to: first.mark });
  await first.startAnew();
  await second.startAnew();
  progress("the client makes its session");
  await connectClient(guests.client, kind);
  await steering.wayBack(first.mark);
}

function listen(gateways: readonly Gateway[]): void {
  const byAddress = new Map(gateways.map((gateway) => [innerAddress(gateway.mark), gateway]));
  const socket = createSocket("udp4", (datagram, { address }) => byAddress.get(address)?.hear(datagram));
  socket.bind(EVENTS_PORT);
}

async function playCrash({ steering, wire }: Bench, holder: Gateway, shadow: Gateway): Promise<Crash> {
  const pair = await pairOf(holder);
  await steering.steer({ to: holder.mark, pair });
  shadow.preparePolicies();
  const pings = new Pings();
  await delay(IPSEC_BENCH.warmUpMs);
  await steering.cut(holder.mark);
  await delay(IPSEC_BENCH.detectionMs);
  const detectedAtMs = Date.now();
  await steering.steer({ to: shadow.mark, pair, fenced: holder.mark });
  const fencedAtMs = Date.now();
  const lagMs = Math.max(IPSEC_BENCH.lagAllowedMs, ...wire.lagsMs(holder.heard));
  const outcome = await shadow.takeOver(holder, pair, { fencedAtMs, lagMs }, steering);
  await steering.wayBack(shadow.mark);
  if (outcome.kind === "new-handshake") progress(`a new handshake: ${outcome.reason}, ${outcome.detail}`);
  const backAtMs = await pings.answeredAfter(detectedAtMs, outcome.kind === "go-on" ? IPSEC_BENCH.oldSpiMs : 0);
  await shadow.authenticate();
  const anew = await pairOf(shadow);
  await steering.steer({ to: shadow.mark, pair: anew, fenced: holder.mark });
  const answeredAtMs = backAtMs ?? (await pings.answeredAfter(detectedAtMs, IPSEC_BENCH.recoverMsMax));
  const replayed = wire.clientFrames(pair.inbound.spi, fencedAtMs);
  await replay(replayed);
  await delay(IPSEC_BENCH.afterMs);
  const packetsLost = await pings.stop();
  const refusedByShadow = (await shadow.refusals()).replayed;
  const wentOn = outcome.kind === "go-on" && backAtMs !== undefined;
  const floor = outcome.kind === "go-on" ? outcome.inboundSequence - outcome.replayWindow : Number.MAX_SAFE_INTEGER;
  if (outcome.kind === "go-on") shadow.forget(pair);
  return {
    recoverMs: answeredAtMs === undefined ? undefined : Math.round(answeredAtMs - detectedAtMs),
    takeoverMs: fencedAtMs - detectedAtMs,
    packetsLost,
    wentOnWithoutRekey: wentOn,
    outboundJump: outcome.kind === "go-on" ? outcome.outboundJump : 0,
    inboundJump: outcome.kind === "go-on" ? outcome.inboundJump : 0,
    replayable: wire.sentAbove(pair.inbound.spi, floor, fencedAtMs),
    replayed: replayed.length,
    replayAccepted: pings.doubled,
    refusedByShadow,
    newSpi: anew.outbound.spi !== pair.outbound.spi,
  };
}

/** Sends frames of the client once more, from its link. */
async function replay(frames: readonly Buffer[]): Promise<void> {
  const socket = createSocket("udp4");
  for (const frame of frames) {
    await new Promise<void>((resolve) => socket.send(frame, REPLAY_PORT, CLIENT, () => resolve()));
    await delay(IPSEC_BENCH.replayPauseMs);
  }
  socket.close();
}

/** The new endpoint makes an IKE SA of its own first; old packets go by the old SPIs to the old endpoint until none are left. */
async function playMove({ steering }: Bench, holder: Gateway, shadow: Gateway): Promise<Move> {
  const pair = await pairOf(holder);
  await steering.steer({ to: holder.mark, pair });
  const pings = new Pings();
  await delay(IPSEC_BENCH.warmUpMs);
  await steering.steer({ to: holder.mark, pair, ikeTo: shadow.mark });
  await shadow.hold();
  await shadow.authenticate();
  await steering.wayBack(shadow.mark);
  await shadow.release();
  await delay(IPSEC_BENCH.afterMs);
  await holder.terminate();
  await steering.steer({ to: shadow.mark, pair: await pairOf(shadow) });
  await delay(IPSEC_BENCH.afterMs);
  return { packetsLost: await pings.stop() };
}

/** What a client costs that nobody helps: its gateway is gone, and its packets go to another that knows nothing of it. */
async function playStock(bench: Bench, kind: "default" | "fastest"): Promise<Stock> {
  await begin(bench, kind);
  const { steering, gateways } = bench;
  const [holder, other] = gateways;
  const pair = await pairOf(holder);
  await steering.steer({ to: holder.mark, pair });
  const pings = new Pings();
  await delay(IPSEC_BENCH.warmUpMs);
  await steering.cut(holder.mark);
  await delay(IPSEC_BENCH.detectionMs);
  const detectedAtMs = Date.now();
  await steering.steer({ to: other.mark, fenced: holder.mark });
  await steering.wayBack(other.mark);
  const watchedMs = IPSEC_BENCH.stockWatchMs;
  const answeredAtMs = await pings.answeredAfter(detectedAtMs, watchedMs);
  await pings.stop();
  const recoverMs = answeredAtMs === undefined ? undefined : Math.round(answeredAtMs - detectedAtMs);
  progress(JSON.stringify({ kind, recoverMs }));
  return { kind, recoverMs, watchedMs };
}

async function pairOf(gateway: Gateway): Promise<SaPair> {
  const pair = await gateway.newestPair();
  if (pair === undefined) throw new Error(`gateway ${gateway.mark} has no SAs`);
  return pair;
}

async function refusedByClient({ client }: Guests): Promise<{ readonly replayed: number; readonly failed: number }> {
  return refusalsIn(await script(client, "ip -s xfrm state list nokeys"));
}

function progress(text: string): void {
  process.stderr.write(`  ${text}\n`);
}
