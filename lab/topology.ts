/**
 * The lab's network: edge, balancer, router and server, and the links of each machine. Addresses are in addresses.ts; what the
 * packets do there is drawn in docs/ARCHITECTURE.md.
 */
import { portOfSlot } from "../models/static-identities.ts";
import { EDGE, ENDPOINT_INNER, endpointLinks, INNER, LB, ROUTER_INNER, SERVER_INNER } from "./addresses.ts";
import { addNamespaces, removeNamespace, runScript } from "./namespace.ts";

export interface Vip {
  readonly v4: string;
  readonly v6?: string | undefined;
  readonly port: number;
}

/** Mark and routing table of an endpoint's outgoing handshakes, which go through the balancer. */
const HANDSHAKE_MARK = 0x51;
const HANDSHAKE_TABLE = 51;

/** Mark of its other packets, which follow the main table. */
const DATA_MARK = 0x52;

/** Every host forwards, accepts asymmetric paths, and answers ARP for an address on the link that holds it only. */
const ROUTER_SYSCTLS = [
  "net.ipv4.ip_forward=1",
  "net.ipv6.conf.all.forwarding=1",
  "net.ipv4.conf.all.rp_filter=0",
  "net.ipv4.conf.default.rp_filter=0",
  "net.ipv4.conf.all.arp_ignore=1",
  "net.ipv4.conf.all.arp_announce=2",
  "net.ipv6.conf.all.keep_addr_on_down=1",
  "net.ipv6.conf.default.keep_addr_on_down=1",
  "net.ipv6.conf.default.accept_dad=0",
  "net.ipv6.conf.all.accept_dad=0",
];

/** Edge, balancer, router and server, without any machine or client. */
export async function buildBackbone(vip: Vip): Promise<void> {
  await addNamespaces(["edge", "lb", "router", "server"]);
  await Promise.all(["edge", "lb", "router", "server"].map((host) => setSysctls(host, ROUTER_SYSCTLS)));
  // The endpoints' handshakes come through the balancer from the VIP, which is an address of its own as well.
  await setSysctls("lb", ["net.ipv4.conf.all.accept_local=1"]);
  await ipBatch([
    "link add lb netns edge type veth peer name edge netns lb",
    "link add router netns server type veth peer name server netns router",
  ]);
  await Promise.all([
    ipBatch(
      [
        `addr add ${EDGE.v4}/30 dev lb`,
        `addr add ${EDGE.v6}/64 dev lb nodad`,
        "link set lb up",
        `route add ${vip.v4}/32 via ${LB.v4}`,
        ...v6(vip, (address) => `route add ${address}/128 via ${LB.v6}`),
      ],
      "edge",
    ),
    ipBatch(
      [
        `addr add ${LB.v4}/30 dev edge`,
        `addr add ${LB.v6}/64 dev edge nodad`,
        "link set edge up",
        `route add default via ${EDGE.v4}`,
        `route add default via ${EDGE.v6}`,
        `addr add ${vip.v4}/32 dev lo`,
        ...v6(vip, (address) => `addr add ${address}/128 dev lo nodad`),
      ],
      "lb",
    ),
    ipBatch([`addr add ${ROUTER_INNER}/24 dev server`, "link set server up"], "router"),
    ipBatch(
      [`addr add ${SERVER_INNER}/24 dev router`, "link set router up", `route add default via ${ROUTER_INNER}`],
      "server",
    ),
  ]);
}

/** Makes the namespace of machine `n` and its three links. The agent adds the tunnel and its routes. */
export async function addMachine(host: string, n: number, vip: Vip): Promise<void> {
  const links = endpointLinks(n);
  await addNamespaces([host]);
  // What is the default when a link is made, the link keeps.
  await setSysctls(host, ROUTER_SYSCTLS);
  await ipBatch([
    `link add ${host} netns lb type veth peer name lb0 netns ${host} address ${links.lb.mac}`,
    `link add ${host} netns edge type veth peer name up0 netns ${host} address ${links.up.mac}`,
    `link add ${host} netns router type veth peer name in0 netns ${host} address ${links.inner.mac}`,
  ]);
  await Promise.all([configureFarEnds(host, n), runScript(machineScript(n, vip), host)]);
}

/** Everything on a machine's own side of its links, for a shell there, be it of a namespace or of a virtual machine. */
export function machineScript(n: number, vip: Vip): string {
  const links = endpointLinks(n);
  const addresses = [
    `addr add ${links.lb.near}/30 dev lb0`,
    `addr add ${links.lb.near6}/64 dev lb0 nodad`,
    `addr add ${links.up.near}/30 dev up0`,
    `addr add ${links.up.near6}/64 dev up0 nodad`,
    `addr add ${links.inner.near}/30 dev in0`,
    `addr add ${vip.v4}/32 dev lo`,
    ...v6(vip, (address) => `addr add ${address}/128 dev lo nodad`),
    `rule add fwmark ${HANDSHAKE_MARK} lookup ${HANDSHAKE_TABLE}`,
    `-6 rule add fwmark ${HANDSHAKE_MARK} lookup ${HANDSHAKE_TABLE}`,
  ];
  const marks = `nft -f - <<'END'\n${wireguardMarks(vip.port)}\nEND`;
  return [sysctlScript(ROUTER_SYSCTLS), batchScript(addresses), batchScript(upCommands(n, vip)), marks].join("\n");
}

/** The ends of a machine's links that are not its own. */
async function configureFarEnds(host: string, n: number): Promise<void> {
  const links = endpointLinks(n);
  const farEnd = (link: { far: string; far6: string }) => [
    `addr add ${link.far}/30 dev ${host}`,
    `addr add ${link.far6}/64 dev ${host} nodad`,
    `link set ${host} up`,
  ];
  await Promise.all([
    ipBatch(farEnd(links.lb), "lb"),
    ipBatch(farEnd(links.up), "edge"),
    ipBatch(farEnd(links.inner), "router"),
  ]);
}

/** Moves the devices of a machine's namespace to the other ends of its links, where each is named after the machine. */
export async function attachFarEnds(
  host: string,
  n: number,
  devices: readonly { readonly tap: string; readonly host: string }[],
): Promise<void> {
  await ipBatch(
    devices.map(({ tap, host: to }) => `link set ${tap} netns ${to} name ${host}`),
    host,
  );
  await configureFarEnds(host, n);
}

/** Brings the machine's links up and sets the routes that a link takes with it when it goes down; may be repeated. */
export async function bringLinksUp(host: string, n: number, vip: Vip): Promise<void> {
  await ipBatch(upCommands(n, vip), host);
}

function upCommands(n: number, vip: Vip): readonly string[] {
  const links = endpointLinks(n);
  return [
    "link set lb0 up",
    "link set up0 up",
    "link set in0 up",
    // Replies leave from the VIP straight towards the client: direct server return.
    `route replace default via ${links.up.far} dev up0 src ${vip.v4}`,
    ...v6(vip, (address) => `route replace default via ${links.up.far6} dev up0 src ${address}`),
    `route replace default via ${links.lb.far} dev lb0 table ${HANDSHAKE_TABLE}`,
    `-6 route replace default via ${links.lb.far6} dev lb0 table ${HANDSHAKE_TABLE}`,
    `route replace ${INNER.servers} via ${links.inner.far} dev in0`,
  ];
}

/** The links of a machine whose own ends are out of reach, taken up or down from the other side. */
export async function setFarEnds(host: string, state: "up" | "down"): Promise<void> {
  await Promise.all(["lb", "edge", "router"].map((other) => ipBatch([`link set ${host} ${state}`], other)));
}

export async function takeLinksDown(host: string): Promise<void> {
  await ipBatch(["link set lb0 down", "link set up0 down", "link set in0 down"], host);
}

/** Removes the machine's namespace; its links go with it. */
export async function removeMachine(host: string): Promise<void> {
  for (const other of ["lb", "edge", "router"]) await ipBatch([`link del ${host}`], other).catch(() => undefined);
  await removeNamespace(host);
}

/** What the agent puts on the tunnel device, and what it routes into it. */
export const TUNNEL = { addresses: [ENDPOINT_INNER], routes: [INNER.clients, INNER.probes] } as const;

/**
 * WireGuard's outgoing handshake messages (types 1 and 2) are the balancer's only source of what it knows of sessions. Everything else
 * that WireGuard sends is marked too: it asks for the interface that the client's packets came in by, and only a change of the mark
 * makes the kernel choose the way anew.
 */
function wireguardMarks(port: number): string {
  const ports = `{ ${portOfSlot(port, 0)}, ${portOfSlot(port, 1)} }`;
  return `table inet foreshift_endpoint {
  chain output {
    type route hook output priority mangle; policy accept;
    udp sport ${ports} @th,64,8 { 1, 2 } meta mark set ${HANDSHAKE_MARK} accept
    udp sport ${ports} meta mark set ${DATA_MARK}
  }
}`;
}

/** Commands of `ip`, in a host's namespaces when one is named. Those that begin with `-6` come after the others. */
export async function ipBatch(commands: readonly string[], host?: string): Promise<void> {
  await runScript(batchScript(commands), host);
}

function batchScript(commands: readonly string[]): string {
  const six = commands.filter((command) => command.startsWith("-6 ")).map((command) => command.slice(3));
  const others = commands.filter((command) => !command.startsWith("-6 "));
  const batch = (option: string, lines: readonly string[]) =>
    lines.length === 0 ? "" : `ip ${option} -batch - <<'END'\n${lines.join("\n")}\nEND\n`;
  return `${batch("", others)}${batch("-6", six)}`;
}

export async function setSysctls(host: string, settings: readonly string[]): Promise<void> {
  await runScript(sysctlScript(settings), host);
}

function sysctlScript(settings: readonly string[]): string {
  const lines = settings.map((setting) => {
    const [name = "", value = ""] = setting.split("=");
    return `echo ${value} > /proc/sys/${name.replaceAll(".", "/")}`;
  });
  return lines.join("\n");
}

function v6(vip: Vip, line: (address: string) => string): string[] {
  return vip.v6 === undefined ? [] : [line(vip.v6)];
}
