/** What trials of `bench ipsec` share: the guests, the balancer, what is seen of the wire, and a beginning. */
import { createSocket } from "node:dgram";
import { setTimeout as delay } from "node:timers/promises";
import { IPSEC_BENCH } from "../../models/limits-ipsec.ts";
import { CLIENT_GUEST, EVENTS_PORT, hostLinkAgain, innerAddress, MARKS, type Mark, REPLAY_PORT } from "./addresses.ts";
import { clientsOf, type KindName } from "./connections.ts";
import type { Gateway, SaPair } from "./gateway.ts";
import { connectClients, type Guests } from "./guests.ts";
import type { Steering } from "./steering.ts";
import type { Wire } from "./wire.ts";

export interface Bench {
  readonly guests: Guests;
  readonly steering: Steering;
  readonly gateways: Readonly<Record<Mark, Gateway>>;
  readonly wire: Wire;
}

/** Gateways as after a boot, and each client's session with the gateway that is its holder. */
export async function begin(bench: Bench, kind: KindName, holderOf: (client: number) => Mark): Promise<void> {
  const { guests, steering, gateways } = bench;
  const clients = clientsOf(kind);
  for (const mark of MARKS) await steering.shell(hostLinkAgain(mark));
  await steering.steer(new Map(clients.map((client, at) => [client, { to: holderOf(at) }])));
  for (const mark of MARKS) await gateways[mark].startAnew(kind);
  progress(
    `${kind}: ${clients.length === 1 ? "the client makes its session" : `${clients.length} clients make their sessions`}`,
  );
  await connectClients(guests.clients, kind);
  for (const mark of MARKS)
    await steering.wayBack(
      clients.filter((_, at) => holderOf(at) === mark),
      mark,
    );
}

/** A gateway that was lost is there again, and knows nobody. */
export async function bringBack({ steering }: Bench, lost: Gateway, kind: KindName): Promise<void> {
  await steering.shell(hostLinkAgain(lost.mark));
  await lost.startAnew(kind);
}

/**
 * Under traffic until rates are known. An SA is given its pace once it has spoken: the kernel's timer is begun by a word, and before the
 * first one the sysctls' count of packets is the smaller one.
 */
export async function warmUp(held: readonly { readonly gateway: Gateway; readonly pairs: readonly SaPair[] }[]): Promise<void> {
  const endsAtMs = performance.now() + IPSEC_BENCH.warmUpMs;
  await delay(IPSEC_BENCH.firstWordsMs);
  for (const { gateway, pairs } of held) await gateway.setPace(pairs, IPSEC_BENCH.pace);
  await delay(Math.max(0, endsAtMs - performance.now()));
}

/** Words of all kernels, until this process ends. */
export function listen(gateways: Bench["gateways"]): void {
  const byAddress = new Map(MARKS.map((mark) => [innerAddress(mark), gateways[mark]]));
  const socket = createSocket("udp4", (datagram, { address }) => byAddress.get(address)?.hear(datagram));
  socket.bind(EVENTS_PORT);
}

/** Sends frames of clients once more, from their link. */
export async function replay(frames: readonly Buffer[]): Promise<void> {
  const socket = createSocket("udp4");
  for (const frame of frames) {
    await new Promise<void>((resolve) => socket.send(frame, REPLAY_PORT, CLIENT_GUEST, () => resolve()));
    await delay(IPSEC_BENCH.replayPauseMs);
  }
  socket.close();
}

export function progress(text: string): void {
  process.stderr.write(`  ${text}\n`);
}
