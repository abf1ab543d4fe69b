/** Addresses and links of `bench ipsec`: clients in one guest, three gateways that own one VIP in another, a server behind them. */

export const VIP = "198.19.0.1";
export const SERVER = "198.18.200.1";
export const SERVER_NETWORK = "198.18.200.0/24";
/** Where the kernels' events of the gateways are sent, on the host's end of their inner links. */
export const EVENTS_PORT = 4_901;
/** At the clients' guest: whole frames that come here leave by its link once more, as if somebody there replayed them. */
export const REPLAY_PORT = 4_902;
export const MARKS = [1, 2, 3] as const;
export type Mark = (typeof MARKS)[number];

/** One client: an address of its own on the link, an address behind it, an identity, a session. All are one guest and one strongSwan. */
export interface Client {
  readonly name: string;
  readonly outer: string;
  readonly inner: string;
  /** Fixed, so that what a shadow holds and what its own strongSwan makes share their policies. */
  readonly reqid: number;
}

const CLIENTS_MAX = 50;
export const CLIENTS: readonly Client[] = Array.from({ length: CLIENTS_MAX }, (_, n) => ({
  name: `client-${n + 1}`,
  outer: `198.18.0.${n + 9}`,
  inner: `10.9.0.${n + 1}`,
  reqid: n + 9,
}));
const CLIENTS_OUTER = "198.18.0.0/25";
const CLIENTS_INNER = "10.9.0.0/25";
/** The guest's own, by which it is given frames to replay. */
const [{ outer: CLIENT_GUEST }] = CLIENTS as readonly [Client, ...Client[]];

export { CLIENT_GUEST };

/** Where the clients' network translates ports, these are what the world sees of 500 and 4500. */
const TRANSLATED = { ike: 20_500, natt: 24_500 } as const;

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
    ip route add ${CLIENTS_OUTER} dev ${CLIENT_LINK.tap}
    ${CLIENTS.map(({ outer }) => `ip neigh replace ${outer} lladdr ${CLIENT_LINK.mac} dev ${CLIENT_LINK.tap}`).join("\n")}
    ${MARKS.map(gateway).join("\n")}
    for file in /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 > $file; done`;
}

/** A link that was down has lost its routes and neighbours. */
export function hostLinkAgain(mark: Mark): string {
  return `ip link set ${outerLink(mark).tap} up; ip link set ${innerLink(mark).tap} up
    ip neigh replace ${innerAddress(mark)} lladdr ${innerLink(mark).mac} dev ${innerLink(mark).tap}`;
}

export function clientNetwork(): string {
  return `ip link set eth0 up
    for n in $(seq ${CLIENTS_MAX}); do echo addr add 198.18.0.$((n + 8))/32 dev eth0; echo addr add 10.9.0.$n/32 dev lo; done | ip -batch -
    ip route add ${VIP} dev eth0; ip neigh replace ${VIP} lladdr ${EDGE_MAC} dev eth0
    ip route add ${SERVER_NETWORK} via ${VIP} dev eth0 onlink
    setsid socat -u UDP4-RECV:${REPLAY_PORT} INTERFACE:eth0 >/run/replay.log 2>&1 </dev/null &`;
}

/** What the clients' network does to their ports, or no more. */
export function portTranslation(wanted: boolean): string {
  const rule = (from: number, to: number) =>
    `nft add rule ip translation out ip saddr ${CLIENTS_OUTER} ip daddr ${VIP} udp sport ${from} snat to :${to}`;
  const add = `nft add table ip translation
    nft add chain ip translation out '{ type nat hook postrouting priority srcnat; }'
    ${rule(500, TRANSLATED.ike)}
    ${rule(4_500, TRANSLATED.natt)}`;
  return `nft delete table ip translation 2>/dev/null || true\n${wanted ? add : ""}`;
}

/**
 * Three gateways in one guest, each a network namespace with links, SAs and a strongSwan of its own. Commands for `ip` come in by the line. What
 * passes the events on goes before all else: packets that are encrypted take the processor first otherwise, and the events wait.
 */
export function gatewaysStart(): string {
  const gateway = (mark: Mark, at: number) => `
    ip netns add gw${mark}
    ip link set eth${at * 2} netns gw${mark} name out0
    ip link set eth${at * 2 + 1} netns gw${mark} name in0
    mkdir -p -m 0700 /run/gw${mark}
    mkfifo -m 0600 /run/gw${mark}/batch
    ip netns exec gw${mark} sh -euc '
      ip link set lo up; ip addr add ${VIP}/32 dev lo; ip addr add ${innerAddress(mark)}/30 dev in0
      ip link set out0 up; ip link set in0 up
      ip route add ${CLIENTS_OUTER} dev out0 src ${VIP}
      for n in $(seq ${CLIENTS_MAX}); do echo neigh replace 198.18.0.$((n + 8)) lladdr 02:00:00:00:03:0${mark} dev out0; done | ip -batch -
      ip route add default via ${hostInnerAddress(mark)}; ip route add ${CLIENTS_INNER} dev out0
      ip neigh replace ${hostInnerAddress(mark)} lladdr 02:00:00:00:04:0${mark} dev in0
      echo 1 > /proc/sys/net/ipv4/ip_forward
      for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $file; done'
    ip netns exec gw${mark} ip -force -batch - <>/run/gw${mark}/batch >>/run/gw${mark}/batch.log 2>&1 &
    (while :; do
      sh -c 'renice -n -20 -p $$; exec ip netns exec gw${mark} socat -u -b 65536 SOCKET-RECV:16:3:6:x00000000000016000000 UDP-SENDTO:${hostInnerAddress(mark)}:${EVENTS_PORT}'
      sleep 1
    done) >/dev/null 2>&1 &`;
  return `set -e
    modprobe -a esp4 xfrm_user sch_plug sch_ingress cls_u32 act_mirred ifb || true
    ${MARKS.map(gateway).join("\n")}
    echo foreshift: gateways ready
    exec 3<>/dev/virtio-ports/foreshift.line
    touch /run/ready
    while read -r gateway line <&3; do printf '%s\\n' "$line" > /run/$gateway/batch; done`;
}

/** After how many packets of an SA the kernel speaks, and after how many tenths of a second; SAs take it when they are made. */
export function eventPace({ packets, tenths }: { readonly packets: number; readonly tenths: number }): string {
  return `echo ${packets} > /proc/sys/net/core/xfrm_aevent_rseqth; echo ${tenths} > /proc/sys/net/core/xfrm_aevent_etime`;
}
