/** Another way of a session to its swarm beside its first, while the swarm's static key is rotated: brought up, used, taken down. */
import { NO_PRESHARED_KEY } from "../drivers/tunnel/wireguard-device.ts";
import { ForeshiftError } from "../models/errors.ts";
import { type ClientHost, routesOf, type SwarmEnd } from "./client-host.ts";
import { type ClientWireguard, renewing, shakingHands } from "./client-wireguard.ts";
import { runScript } from "./namespace.ts";
import { ipBatch } from "./topology.ts";

/** A session and its host; asleep: the host's tunnels are down. */
export interface HostSession {
  readonly host: ClientHost;
  readonly k: number;
  readonly asleep: boolean;
}

/** A second interface with the session's own key and address, and a handshake by it; the session sends as before. */
export async function bringWay(wireguard: ClientWireguard, session: HostSession, end: SwarmEnd): Promise<void> {
  const { asleep, host, k } = session;
  const ways = host.ways[k] ?? [];
  if (ways.some((way) => way.publicKey === end.publicKey)) return;
  const [first] = ways;
  const device = first?.device.endsWith("b") === true ? `wg${k}` : `wg${k}b`;
  const way = { ...end, device };
  if (asleep) return void ways.push(way);
  const { client, keys } = host;
  const lines = [
    wireguard.start(host, device),
    wireguard.config(way, keys[k], client.family),
    `wg show ${first?.device} preshared-keys | cut -f2 | sed 's/(none)/${NO_PRESHARED_KEY.replaceAll("/", "\\/")}/' | wg set ${device} peer ${end.publicKey} preshared-key /dev/stdin`,
    `ip addr add ${client.sessions[k]?.innerAddress}/32 dev ${device}`,
    `ip link set ${device} mtu 1420 up`,
    ...shakingHands(way),
  ];
  try {
    await runScript(lines.join("\n"), client.name);
    ways.push(way);
  } catch (thrown) {
    await runScript(`ip link del ${device}`, client.name).catch(() => undefined);
    throw thrown;
  }
}

/** After a further handshake by it, what the session sends goes by the way to this end; what comes by the other is taken on. */
export async function useWay({ asleep, host, k }: HostSession, end: SwarmEnd): Promise<void> {
  const ways = host.ways[k] ?? [];
  const at = ways.findIndex((way) => way.publicKey === end.publicKey);
  if (at < 0) throw invalid({ host, k }, "it has no way to this static key");
  const [former, way] = [ways[0], ways[at]];
  if (at === 0 || former === undefined || way === undefined) return;
  // A host that sleeps has one interface for each session, which takes its key from here when it is raised.
  const devices = asleep ? [former.device, way.device] : [way.device, former.device];
  const use = () => ways.splice(0, ways.length, { ...way, device: devices[0] ?? "" }, { ...former, device: devices[1] ?? "" });
  if (asleep) return void use();
  // One that does not shake hands in time stays on its former way, and says so again when it is asked again.
  await runScript(renewing(way, host.keys[k]).join("\n"), host.client.name);
  const before = use();
  try {
    await ipBatch(routesOf(host, k), host.client.name);
  } catch (thrown) {
    ways.splice(0, ways.length, ...before);
    throw thrown;
  }
}

/** Takes down the way to this end; one that is not there is a success. */
export async function dropWay({ asleep, host, k }: HostSession, end: SwarmEnd): Promise<void> {
  const ways = host.ways[k] ?? [];
  const at = ways.findIndex((way) => way.publicKey === end.publicKey);
  if (at === 0) throw invalid({ host, k }, "it sends by the way to this static key");
  if (at < 0) return;
  const [gone] = ways.splice(at, 1);
  if (asleep) return;
  await runScript(`if ip link show ${gone?.device} > /dev/null 2>&1; then ip link del ${gone?.device}; fi`, host.client.name);
}

function invalid({ host, k }: Pick<HostSession, "host" | "k">, detail: string): ForeshiftError {
  const { publicKey: value } = host.client.sessions[k]?.peer ?? { publicKey: "" };
  return new ForeshiftError("INVALID_FIELD", { field: "publicKey", value, detail });
}
