/** The two guests of `bench ipsec`: clients with Debian's stock kernel and strongSwan, and one that is three gateways. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { VirtualMachine } from "../../drivers/qemu/virtual-machine.ts";
import { ForeshiftError } from "../../models/errors.ts";
import { IPSEC_BENCH } from "../../models/limits-ipsec.ts";
import { CLIENT_LINK, clientNetwork, gatewaysStart, innerLink, MARKS, outerLink, portTranslation } from "./addresses.ts";
import {
  clientsOf,
  connections,
  FASTEST_CLIENT_DAEMON,
  gatewayDaemon,
  KIND_NAMES,
  KINDS,
  type KindName,
} from "./connections.ts";

const CONFIG = "/run/config";
const CLIENT_SOCKET = "/var/run/charon.vici";

/** In one script: emulated guests take up to seconds for each. */
const CALLS_AT_ONCE = 10;

export interface Guests {
  readonly clients: VirtualMachine;
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
  const clients = await launch("clients", [CLIENT_LINK], {
    ...configurations("client"),
    "fastest-daemon.conf": FASTEST_CLIENT_DAEMON,
  });
  const links = MARKS.flatMap((mark) => [outerLink(mark), innerLink(mark)]);
  const gateways = await launch("gateways", links, {
    start: gatewaysStart(),
    ...configurations("gateway"),
    ...Object.fromEntries(MARKS.map((mark) => [`gw${mark}-daemon.conf`, gatewayDaemon(mark)])),
  });
  await clients.ready();
  await gateways.ready();
  await script(clients, clientNetwork());
  await script(gateways, waitFor("[ -e /run/ready ]"));
  return { clients, gateways };
}

function configurations(side: "client" | "gateway"): Readonly<Record<string, string>> {
  return Object.fromEntries(KIND_NAMES.map((kind) => [`${side}-${kind}.conf`, connections(side, kind)]));
}

/** What a shell script in a guest prints. COMMAND_FAILED with the end of what it complained of. */
export async function script(guest: VirtualMachine, text: string): Promise<string> {
  return await scriptWithInput(guest, text, "");
}

/** The same, of a script that reads what nobody else is to see. */
export async function scriptWithInput(guest: VirtualMachine, text: string, input: string): Promise<string> {
  const options = { timeoutMs: IPSEC_BENCH.scriptTimeoutMs, ...(input === "" ? {} : { input }) };
  const { status, stdout, stderr } = await guest.run(["/usr/bin/sh", "-euc", `PATH=/usr/sbin:/usr/bin\n${text}`], options);
  if (status === 0) return stdout;
  const detail = `${stderr.trim().split("\n").at(-1) ?? ""} ${stdout.trim().split("\n").at(-1) ?? ""}`.trim();
  throw new ForeshiftError("COMMAND_FAILED", {
    field: `a script in ${guest.name}`,
    detail: `exit status ${status}: ${detail}`,
  });
}

/** Starts the clients' strongSwan anew, and lets each make its session. */
export async function connectClients(guest: VirtualMachine, kind: KindName): Promise<void> {
  const daemon = kind === "fastest" ? `STRONGSWAN_CONF=${CONFIG}/fastest-daemon.conf ` : "";
  const initiate = (name: string) => `swanctl --initiate --child ${name} --timeout ${IPSEC_BENCH.initiateTimeoutSeconds}`;
  await script(
    guest,
    `[ ! -e /run/charon.pid ] || { kill -9 $(cat /run/charon.pid) || true; ip xfrm state flush; ip xfrm policy flush; }
    ${portTranslation("translated" in KINDS[kind])}
    rm -f ${CLIENT_SOCKET}
    ${daemon}setsid charon-systemd >/run/charon.log 2>&1 </dev/null & echo $! > /run/charon.pid
    ${waitFor(`[ -S ${CLIENT_SOCKET} ]`)}
    swanctl --load-all --file ${CONFIG}/client-${kind}.conf`,
  );
  const clients = clientsOf(kind);
  for (let from = 0; from < clients.length; from += CALLS_AT_ONCE) {
    const calls = clients.slice(from, from + CALLS_AT_ONCE).map(({ name }) => initiate(name));
    await script(guest, calls.join("\n"));
  }
}

/** A line of shell that waits until a condition holds, and fails when it does not come. */
export function waitFor(condition: string): string {
  return `tries=0; until ${condition}; do tries=$((tries + 1)); [ $tries -lt ${IPSEC_BENCH.waitTries} ]; sleep 0.2; done`;
}
