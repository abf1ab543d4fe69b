/** The two guests of `bench ipsec`: a client with Debian's stock kernel and strongSwan, and one that is two gateways. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { VirtualMachine } from "../../drivers/qemu/virtual-machine.ts";
import { ForeshiftError } from "../../models/errors.ts";
import { IPSEC_BENCH } from "../../models/limits-ipsec.ts";
import {
  CLIENT_LINK,
  clientNetwork,
  connections,
  FASTEST_CLIENT_DAEMON,
  gatewayDaemon,
  gatewaysStart,
  innerLink,
  MARKS,
  outerLink,
} from "./addresses.ts";

const CONFIG = "/run/config";
const CLIENT_SOCKET = "/var/run/charon.vici";

export interface Guests {
  readonly client: VirtualMachine;
  readonly gateways: VirtualMachine;
}

/** Both, booted, their links made. Errors of the virtual machine. */
export async function bootGuests(image: string, folder: string): Promise<Guests> {
  const launch = async (
    name: string,
    taps: readonly { tap: string; mac: string }[],
    files: Readonly<Record<string, string>>,
  ) => {
    await mkdir(join(folder, name), { mode: 0o700 });
    return await VirtualMachine.launch({
      name,
      image,
      folder: join(folder, name),
      files: Object.entries({ hostname: name, ...files }).map(([path, content]) => ({ path, content })),
      taps: taps.map(({ tap, mac }) => ({ device: tap, mac })),
    });
  };
  const client = await launch("client", [CLIENT_LINK], {
    "default.conf": connections("client"),
    "fastest.conf": connections("client", IPSEC_BENCH.fastestDetection),
    "fastest-daemon.conf": FASTEST_CLIENT_DAEMON,
  });
  const links = MARKS.flatMap((mark) => [outerLink(mark), innerLink(mark)]);
  const gateways = await launch("gateways", links, {
    start: gatewaysStart({ packets: IPSEC_BENCH.eventPackets, tenths: IPSEC_BENCH.eventTenths }),
    "gateway.conf": connections("gateway"),
    ...Object.fromEntries(MARKS.map((mark) => [`gw${mark}-daemon.conf`, gatewayDaemon(mark)])),
  });
  await client.ready();
  await gateways.ready();
  await script(client, clientNetwork());
  await script(gateways, waitFor("[ -e /run/ready ]"));
  return { client, gateways };
}

/** What a shell script in a guest prints. COMMAND_FAILED with the end of what it complained of. */
export async function script(guest: VirtualMachine, text: string): Promise<string> {
  const options = { timeoutMs: IPSEC_BENCH.scriptTimeoutMs };
  const { status, stdout, stderr } = await guest.run(["/usr/bin/sh", "-euc", `PATH=/usr/sbin:/usr/bin\n${text}`], options);
  if (status === 0) return stdout;
  const detail = `${stderr.trim().split("\n").at(-1) ?? ""} ${stdout.trim().split("\n").at(-1) ?? ""}`.trim();
  throw new ForeshiftError("COMMAND_FAILED", {
    field: `a script in ${guest.name}`,
    detail: `exit status ${status}: ${detail}`,
  });
}

/** Starts the client's strongSwan anew, and lets it make its session. */
export async function connectClient(client: VirtualMachine, kind: "default" | "fastest"): Promise<void> {
  const daemon = kind === "fastest" ? `STRONGSWAN_CONF=${CONFIG}/fastest-daemon.conf ` : "";
  await script(
    client,
    `[ ! -e /run/charon.pid ] || { kill -9 $(cat /run/charon.pid) || true; ip xfrm state flush; ip xfrm policy flush; }
    rm -f ${CLIENT_SOCKET}
    ${daemon}setsid charon-systemd >/run/charon.log 2>&1 </dev/null & echo $! > /run/charon.pid
    ${waitFor(`[ -S ${CLIENT_SOCKET} ]`)}
    swanctl --load-all --file ${CONFIG}/${kind}.conf
    swanctl --initiate --child net --timeout ${IPSEC_BENCH.initiateTimeoutSeconds}`,
  );
}

/** A line of shell that waits until a condition holds, and fails when it does not come. */
export function waitFor(condition: string): string {
  return `tries=0; until ${condition}; do tries=$((tries + 1)); [ $tries -lt ${IPSEC_BENCH.waitTries} ]; sleep 0.2; done`;
}
