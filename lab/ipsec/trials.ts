/**
 * Runs inside namespaces of its own (lab/enclosure.ts): clients with stock strongSwan in one guest, three gateways in another, and the
 * balancer's real rules between them. Plays crashes, planned moves and stock behaviour under traffic, and prints what they cost, as JSON.
 */
import { z } from "zod";
import { messageOf } from "../../models/errors.ts";
import { IPSEC_BENCH } from "../../models/limits-ipsec.ts";
import { hostNetwork, MARKS, type Mark } from "./addresses.ts";
import { type Bench, begin, bringBack, listen, progress } from "./bench.ts";
import { playCrash, playMove, playStock } from "./crash.ts";
import { type Crash, figures, type Move, type Played, type Spread, VARIANTS } from "./figures.ts";
import { Gateway, refusalsIn } from "./gateway.ts";
import { bootGuests, type Guests, script } from "./guests.ts";
import { playLoad } from "./lag.ts";
import { GUEST_PARTS, type GuestPart } from "./parts.ts";
import { playSpread } from "./spread.ts";
import { Steering } from "./steering.ts";
import { Wire } from "./wire.ts";

const Options = z.object({ image: z.string(), trials: z.number().int().min(1), parts: z.array(z.enum(GUEST_PARTS)) });

/** In every Linux; what is mounted over it in namespaces of one's own ends with them, however they end. */
const MEMORY = "/dev/shm";

const options = Options.parse(JSON.parse(process.argv[2] ?? ""));
try {
  process.stdout.write(`${JSON.stringify(await play())}\n`);
} catch (thrown) {
  progress(messageOf(thrown));
  process.exitCode = 1;
}
// QEMU ends with this process.
process.exit();

async function play(): Promise<object> {
  progress("booting clients and three gateways");
  const steering = new Steering();
  await steering.shell(`mount -t tmpfs -o mode=0700 tmpfs ${MEMORY}`);
  const guests = await bootGuests(options.image, MEMORY);
  await steering.shell(hostNetwork());
  const [first, second, third] = MARKS.map((mark) => new Gateway(guests.gateways, mark)) as [Gateway, Gateway, Gateway];
  const bench: Bench = { guests, steering, gateways: { 1: first, 2: second, 3: third }, wire: new Wire() };
  listen(bench.gateways);
  const plays = (part: GuestPart) => options.parts.includes(part);
  const trialsOf = (part: GuestPart) => {
    const most = part === "crash" || part === "move" ? options.trials : IPSEC_BENCH.partTrialsMax;
    return plays(part) ? Math.min(options.trials, most) : 0;
  };
  const { crashes, moves } = await playSingles(bench, trialsOf);
  const spreads: Spread[] = [];
  for (let n = 0; n < trialsOf("spread"); n += 1) spreads.push(await playSpread(bench, MARKS[n % MARKS.length] ?? 1));
  // Of sessions at an even pace; those that are to be too many for the guests have figures of their own.
  const lagsMs = [first, second, third].flatMap((gateway) => bench.wire.lagsMs(gateway.heard));
  const load = plays("load") ? await playLoad(bench) : [];
  const refused = await refusedByClients(guests);
  const wire = bench.wire.counts;
  bench.wire.stop();
  const stock = plays("stock") ? [await playStock(bench, "fastest"), await playStock(bench, "default")] : [];
  return figures({ crashes, moves, spreads, load, stock, lagsMs, wire, refused });
}

/** One client, two gateways that take turns. */
async function playSingles(bench: Bench, trialsOf: (part: GuestPart) => number): Promise<Pick<Played, "crashes" | "moves">> {
  const crashes: Crash[] = [];
  const moves: Move[] = [];
  const { gateways } = bench;
  for (const variant of VARIANTS) {
    let [holder, shadow]: [Mark, Mark] = [1, 2];
    const lost = trialsOf(variant === "plain" ? "crash" : variant);
    const moved = variant === "plain" ? trialsOf("move") : 0;
    for (let n = 0; n < lost + moved; n += 1) {
      // Numbers near their end are given to a session that has not been used.
      const isFresh = n === 0 || variant === "esn";
      if (isFresh) await begin(bench, variant, () => holder);
      const isCrash = n < lost;
      if (isCrash) crashes.push(await playCrash(bench, variant, gateways[holder], gateways[shadow]));
      else moves.push(await playMove(bench, gateways[holder], gateways[shadow]));
      progress(JSON.stringify(isCrash ? crashes.at(-1) : moves.at(-1)));
      await bringBack(bench, gateways[holder], variant);
      [holder, shadow] = [shadow, holder];
    }
  }
  return { crashes, moves };
}

async function refusedByClients({ clients }: Guests): Promise<{ readonly replayed: number; readonly failed: number }> {
  return refusalsIn(await script(clients, "ip -s xfrm state list nokeys"));
}
