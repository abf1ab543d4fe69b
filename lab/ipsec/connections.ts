/** What strongSwan is told on both sides of `bench ipsec`: one connection for each client, of each kind that is played. */
import { IPSEC_BENCH } from "../../models/limits-ipsec.ts";
import { CLIENTS, type Client, type Mark, SERVER_NETWORK, VIP } from "./addresses.ts";

interface Kind {
  readonly clients: number;
  /** Dead-peer detection of the client; absent: as it is when nobody says anything, which is none. */
  readonly detectionSeconds?: number;
  /** Extended sequence numbers. */
  readonly esn?: true;
  /** The clients' network translates their ports. */
  readonly translated?: true;
}

export const KINDS = {
  plain: { clients: 1 },
  "nat-t": { clients: 1, translated: true },
  esn: { clients: 1, esn: true },
  fastest: { clients: 1, detectionSeconds: IPSEC_BENCH.fastestDetection.delaySeconds },
  spread: { clients: IPSEC_BENCH.spreadSessions },
  load: { clients: IPSEC_BENCH.loadSessions },
} as const satisfies Readonly<Record<string, Kind>>;
export type KindName = keyof typeof KINDS;
export const KIND_NAMES = Object.keys(KINDS) as readonly KindName[];

export function clientsOf(kind: KindName): readonly Client[] {
  return CLIENTS.slice(0, KINDS[kind].clients);
}

type Side = "client" | "gateway";

/** swanctl.conf of either side. The key is made up and lives as long as the guests. */
export function connections(side: Side, kind: KindName): string {
  return `connections { ${clientsOf(kind)
    .map((client) => connection(side, KINDS[kind], client))
    .join("\n")} }
    secrets { ike-1 { secret = "made up for the bench" } }
`;
}

/** Of a gateway that calls a client itself, whose network translates ports: the client is at this one. */
export function callingConnection(kind: KindName, client: Client, port: number): string {
  return `connections { ${connection("gateway", KINDS[kind], client, `local_port = 4500\nremote_port = ${port}`)} }`;
}

function connection(side: Side, kind: Kind, client: Client, ports = ""): string {
  const isClient = side === "client";
  const { name, outer, inner, reqid } = client;
  const [local, remote] = isClient ? [outer, VIP] : [VIP, outer];
  const [near, far] = isClient ? [`${inner}/32`, SERVER_NETWORK] : [SERVER_NETWORK, `${inner}/32`];
  const detectionSeconds = isClient ? kind.detectionSeconds : undefined;
  return `${name} { version = 2
      proposals = aes128gcm16-prfsha256-x25519
      local_addrs = ${local}
      remote_addrs = ${remote}
      ${ports}
      ${isClient ? "" : "unique = never"}
      ${detectionSeconds === undefined ? "" : `dpd_delay = ${detectionSeconds}s`}
      local { auth = psk
        id = ${isClient ? name : "gateway"} }
      remote { auth = psk
        id = ${isClient ? "gateway" : name} }
      children { ${name} { esp_proposals = aes128gcm16${kind.esn === true ? "-esn" : ""}
        local_ts = ${near}
        remote_ts = ${far}
        ${detectionSeconds === undefined ? "" : "dpd_action = restart"}
        ${isClient ? "" : `reqid = ${reqid}`} } } }`;
}

/** strongswan.conf of a gateway: beside others in the same guest, and its routes are not strongSwan's to make. */
export function gatewayDaemon(mark: Mark): string {
  return `include /etc/strongswan.conf
    charon-systemd { install_routes = no
      install_virtual_ip = no
      plugins { vici { socket = unix:///run/gw${mark}/charon.vici } } }
`;
}

/** strongswan.conf of a client that gives up on a silent peer as soon as strongSwan can. */
export const FASTEST_CLIENT_DAEMON = `include /etc/strongswan.conf
    charon-systemd { retransmit_tries = 1
      retransmit_timeout = 1.0
      retransmit_base = 1.0 }
`;
