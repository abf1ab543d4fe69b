/** Addresses, links and configurations of `bench ipsec`: one client, two gateways that own one VIP, a server behind them. */

export const VIP = "198.19.0.1";
export const CLIENT = "198.18.0.9";
export const CLIENT_INNER = "10.9.0.1";
export const SERVER = "198.18.200.1";
export const SERVER_NETWORK = "198.18.200.0/24";
/** Fixed, so that what a shadow holds and what its own strongSwan makes share their policies. */
export const REQID = 9;
/** Where the kernels' events of the gateways are sent, on the host's end of their inner links. */
export const EVENTS_PORT = 4_901;
/** At the client's guest: whole frames that come here leave by its link once more, as if somebody there replayed them. */
export const REPLAY_PORT = 4_902;
export const MARKS = [1, 2] as const;
export type Mark = (typeof MARKS)[number];

export interface Link {
  readonly tap: string;
  /** In the guest. */
  readonly mac: string;
}

const EDGE_MAC = "02:00:00:00:03:00";
export const CLIENT_LINK: Link = { tap: "cl0", mac: "02:00:00:00:00:09" };

export function outerLink(mark: Mark): Link {
  return { tap: `gw${mark}o`, mac: `02:00:00:00:01:0${mark}` };
}

export function innerLink(mark: Mark): Link {
  return { tap: `gw${mark}i`, mac: `02:00:00:00:02:0${mark}` };
}

export function innerAddress(mark: Mark): string {
  return `198.18.10${mark}.2`;
}

function hostInnerAddress(mark: Mark): string {
  return `198.18.10${mark}.1`;
}

/** Script for the namespace of balancer and server, once the guests' taps are there. */
export function hostNetwork(): string {
  const up = (tap: string, mac: string) => `ip link set ${tap} address ${mac} up`;
  const gateway = (mark: Mark) => `${up(outerLink(mark).tap, `02:00:00:00:03:0${mark}`)}
    ${up(innerLink(mark).tap, `02:00:00:00:04:0${mark}`)}
    ip addr add ${hostInnerAddress(mark)}/30 dev ${innerLink(mark).tap}
    ip neigh replace ${innerAddress(mark)} lladdr ${innerLink(mark).mac} dev ${innerLink(mark).tap}`;
  return `set -e
    ip link set lo up
    echo 1 > /proc/sys/net/ipv4/ip_forward
    ip addr add ${SERVER}/32 dev lo
    ${up(CLIENT_LINK.tap, EDGE_MAC)}
    ip route add ${CLIENT} dev ${CLIENT_LINK.tap}
    ip neigh replace ${CLIENT} lladdr ${CLIENT_LINK.mac} dev ${CLIENT_LINK.tap}
    ${MARKS.map(gateway).join("\n")}
    for file in /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 > $file; done`;
}

/** A link that was down has lost its routes and neighbours. */
export function hostLinkAgain(mark: Mark): string {
  return `ip link set ${outerLink(mark).tap} up; ip link set ${innerLink(mark).tap} up
    ip neigh replace ${innerAddress(mark)} lladdr ${innerLink(mark).mac} dev ${innerLink(mark).tap}`;
}

export function clientNetwork(): string {
  return `ip addr add ${CLIENT}/32 dev eth0; ip link set eth0 up; ip addr add ${CLIENT_INNER}/32 dev lo
    ip route add ${VIP} dev eth0; ip neigh replace ${VIP} lladdr ${EDGE_MAC} dev eth0
    ip route add ${SERVER_NETWORK} via ${VIP} dev eth0 onlink src ${CLIENT_INNER}
    setsid socat -u UDP4-RECV:${REPLAY_PORT} INTERFACE:eth0 >/run/replay.log 2>&1 </dev/null &`;
}

/** Two gateways in one guest, each a network namespace with links, SAs and a strongSwan of its own. Commands for `ip` come in by the line. */
export function gatewaysStart(events: { readonly packets: number; readonly tenths: number }): string {
  const gateway = (mark: Mark, at: number) => `
    ip netns add gw${mark}
    ip link set eth${at * 2} netns gw${mark} name out0
    ip link set eth${at * 2 + 1} netns gw${mark} name in0
    mkdir -p -m 0700 /run/gw${mark}
    mkfifo -m 0600 /run/gw${mark}/batch
    ip netns exec gw${mark} sh -euc '
      ip link set lo up; ip addr add ${VIP}/32 dev lo; ip addr add ${innerAddress(mark)}/30 dev in0
      ip link set out0 up; ip link set in0 up
      ip route add ${CLIENT}/32 dev out0 src ${VIP}; ip neigh replace ${CLIENT} lladdr 02:00:00:00:03:0${mark} dev out0
      ip route add default via ${hostInnerAddress(mark)}; ip route add ${CLIENT_INNER}/32 dev out0
      ip neigh replace ${hostInnerAddress(mark)} lladdr 02:00:00:00:04:0${mark} dev in0
      echo 1 > /proc/sys/net/ipv4/ip_forward
      for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $file; done
      echo ${events.packets} > /proc/sys/net/core/xfrm_aevent_rseqth; echo ${events.tenths} > /proc/sys/net/core/xfrm_aevent_etime'
    ip netns exec gw${mark} ip -force -batch - <>/run/gw${mark}/batch >>/run/gw${mark}/batch.log 2>&1 &
    (while :; do
      ip netns exec gw${mark} socat -u -b 65536 SOCKET-RECV:16:3:6:x00000000000016000000 UDP-SENDTO:${hostInnerAddress(mark)}:${EVENTS_PORT}
      sleep 1
    done) >/dev/null 2>&1 &`;
  return `set -e
    modprobe -a esp4 xfrm_user sch_netem sch_ingress cls_u32 act_mirred ifb || true
    ${MARKS.map(gateway).join("\n")}
    echo foreshift: gateways ready
    exec 3<>/dev/virtio-ports/foreshift.line
    touch /run/ready
    while read -r gateway line <&3; do printf '%s\\n' "$line" > /run/$gateway/batch; done`;
}

/** Dead-peer detection of the client; absent: as it is when nobody says anything, which is none. */
export interface DeadPeerDetection {
  readonly delaySeconds: number;
}

/** swanctl.conf of either side. The key is made up and lives as long as the guests. */
export function connections(side: "client" | "gateway", detection?: DeadPeerDetection): string {
  const isClient = side === "client";
  const [local, remote] = isClient ? [CLIENT, VIP] : [VIP, CLIENT];
  const [near, far] = isClient ? [`${CLIENT_INNER}/32`, SERVER_NETWORK] : [SERVER_NETWORK, `${CLIENT_INNER}/32`];
  return `connections { net { version = 2
      proposals = aes128gcm16-prfsha256-x25519
      local_addrs = ${local}
      remote_addrs = ${remote}
      ${isClient ? "" : "unique = never"}
      ${detection === undefined ? "" : `dpd_delay = ${detection.delaySeconds}s`}
      local { auth = psk
        id = ${side} }
      remote { auth = psk
        id = ${isClient ? "gateway" : "client"} }
      children { net { esp_proposals = aes128gcm16
        local_ts = ${near}
        remote_ts = ${far}
        ${detection === undefined ? "" : "dpd_action = restart"}
        ${isClient ? "" : `reqid = ${REQID}`} } } } }
    secrets { ike-1 { secret = "made up for the bench" } }
`;
}

/** strongswan.conf of a gateway: beside another one in the same guest, and its routes are not strongSwan's to make. */
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
