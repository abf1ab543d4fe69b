/** Addresses, links and scripts of a client and two IPsec gateways, each a virtual machine, with an agent in each gateway. */

export const VIP = "198.19.0.1";
export const CLIENT = "198.18.0.9";
export const CLIENT_INNER = "10.9.0.1";
export const SERVER = "10.99.0.1";
export const EDGE = { device: "cl0", mac: "02:00:00:00:03:00", clientMac: "02:00:00:00:00:09" } as const;
export const SERVER_DEVICE = "srv0";
export const PORT = 51_820;
/** On the host's end of a gateway's management link, and on the gateway's, where its agent is reached: a fence shuts the other links. */
export const RELAYED = { collector: 7_001, reflex: 7_002, vault: 7_003, agent: 7_010 } as const;
export const MARKS = [1, 2] as const;
export type Mark = (typeof MARKS)[number];

const REQID = 9;
const SERVER_NETWORK = "10.99.0.0/24";
const ROUTER = "10.99.0.254";
const CLIENT_MAC = EDGE.clientMac;

const link = (mark: Mark, name: "i" | "m" | "o", number: number) => ({
  device: `gw${mark}${name}`,
  mac: `02:00:00:00:0${number}:0${mark}`,
  hostMac: `02:00:00:00:1${number}:0${mark}`,
});
export const outer = (mark: Mark) => link(mark, "o", 1);
export const inner = (mark: Mark) => link(mark, "i", 2);
export const management = (mark: Mark) => link(mark, "m", 3);
const innerAddress = (mark: Mark) => `198.18.10${mark}.2`;
const outerAddress = (mark: Mark) => `198.18.12${mark}.2`;
const outerHostAddress = (mark: Mark) => `198.18.12${mark}.1`;
const innerHostAddress = (mark: Mark) => `198.18.10${mark}.1`;
export const managementAddress = (mark: Mark) => `198.18.11${mark}.2`;
export const hostAddress = (mark: Mark) => `198.18.11${mark}.1`;
export const nameOf = (mark: Mark) => `gw-${mark}`;

/** The balancer and router, and a server behind it, once the guests' taps are there. */
export function hostNetwork(): string {
  const gateway = (mark: Mark) => `
    ip link set ${outer(mark).device} address ${outer(mark).hostMac} up
    ip addr add ${outerHostAddress(mark)}/30 dev ${outer(mark).device}
    ip neigh replace ${outerAddress(mark)} lladdr ${outer(mark).mac} dev ${outer(mark).device}
    ip link set ${inner(mark).device} address ${inner(mark).hostMac} up
    ip addr add ${innerHostAddress(mark)}/30 dev ${inner(mark).device}
    ip neigh replace ${innerAddress(mark)} lladdr ${inner(mark).mac} dev ${inner(mark).device}
    ip link set ${management(mark).device} address ${management(mark).hostMac} up
    ip addr add ${hostAddress(mark)}/30 dev ${management(mark).device}
    ip neigh replace ${managementAddress(mark)} lladdr ${management(mark).mac} dev ${management(mark).device}`;
  return `set -e
    echo 1 > /proc/sys/net/ipv4/ip_forward
    ip link set ${EDGE.device} address ${EDGE.mac} up
    ip route add ${CLIENT} dev ${EDGE.device}; ip neigh replace ${CLIENT} lladdr ${CLIENT_MAC} dev ${EDGE.device}
    ip netns add server
    ip link add ${SERVER_DEVICE} type veth peer name server0 netns server
    ip addr add ${ROUTER}/24 dev ${SERVER_DEVICE}; ip link set ${SERVER_DEVICE} up
    ip -n server addr add ${SERVER}/24 dev server0; ip -n server link set server0 up; ip -n server link set lo up
    ip -n server route add default via ${ROUTER}
    ${MARKS.map(gateway).join("\n")}
    for file in /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 > $file; done`;
}

/** An SA of nobody's has the kernel load the code of its algorithms, which takes an emulated guest seconds in which it does nothing else. */
const LOAD_ALGORITHMS = `nobody="src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x100"
    ip xfrm state add $nobody mode tunnel aead 'rfc4106(gcm(aes))' 0x${"5a".repeat(20)} 128; ip xfrm state delete $nobody`;

export function clientStart(): string {
  return `set -e
    modprobe -a esp4 xfrm_user
    ${LOAD_ALGORITHMS}
    ip addr add ${CLIENT}/32 dev eth0; ip link set eth0 up; ip addr add ${CLIENT_INNER}/32 dev lo
    ip route add ${VIP} dev eth0; ip neigh replace ${VIP} lladdr ${EDGE.mac} dev eth0
    ip route add ${SERVER_NETWORK} via ${VIP} dev eth0 onlink src ${CLIENT_INNER}
    touch /run/ready
    exec charon-systemd`;
}

/** Links, strongSwan and agent of a gateway; its cards are its outer, its inner and its management link. */
export function gatewayStart(mark: Mark): string {
  const relay = (name: "collector" | "reflex" | "vault") =>
    `socat UNIX-LISTEN:/run/${name}.sock,fork,mode=600 TCP:${hostAddress(mark)}:${RELAYED[name]} &`;
  return `set -e
    modprobe -a esp4 xfrm_user wireguard || true
    ${LOAD_ALGORITHMS}
    ip addr add ${VIP}/32 dev lo; ip addr add ${outerAddress(mark)}/30 dev eth0
    ip addr add ${innerAddress(mark)}/30 dev eth1; ip addr add ${managementAddress(mark)}/30 dev eth2
    ip link set eth0 up; ip link set eth1 up; ip link set eth2 up
    ip route add ${CLIENT}/32 dev eth0 src ${VIP}; ip neigh replace ${CLIENT} lladdr ${outer(mark).hostMac} dev eth0
    ip route add default via ${innerHostAddress(mark)}; ip route add ${CLIENT_INNER}/32 dev eth0
    ip neigh replace ${outerHostAddress(mark)} lladdr ${outer(mark).hostMac} dev eth0
    ip neigh replace ${innerHostAddress(mark)} lladdr ${inner(mark).hostMac} dev eth1
    ip neigh replace ${hostAddress(mark)} lladdr ${management(mark).hostMac} dev eth2
    echo 1 > /proc/sys/net/ipv4/ip_forward
    for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $file; done
    ${(["collector", "reflex", "vault"] as const).map(relay).join("\n")}
    socat TCP-LISTEN:${RELAYED.agent},fork,reuseaddr,bind=${managementAddress(mark)} UNIX-CONNECT:/run/agent.sock &
    STRONGSWAN_CONF=/run/config/daemon.conf charon-systemd >/run/charon.log 2>&1 </dev/null &
    mkdir -p -m 0700 /run/state
    touch /run/ready
    exec node /opt/foreshift/workers/agent.js /run/config/agent.json >/run/agent.log 2>&1 </dev/null`;
}

export function swanctl(side: "client" | "gateway"): string {
  const isClient = side === "client";
  const [local, remote] = isClient ? [CLIENT, VIP] : [VIP, CLIENT];
  const [near, far] = isClient ? [`${CLIENT_INNER}/32`, SERVER_NETWORK] : [SERVER_NETWORK, `${CLIENT_INNER}/32`];
  return `connections { net { version = 2
      proposals = aes128gcm16-prfsha256-x25519
      local_addrs = ${local}
      remote_addrs = ${remote}
      ${isClient ? "" : "unique = never"}
      local { auth = psk
        id = ${side} }
      remote { auth = psk
        id = ${isClient ? "gateway" : "client"} }
      children { net { esp_proposals = aes128gcm16
        local_ts = ${near}
        remote_ts = ${far}
        ${isClient ? "" : `reqid = ${REQID}`} } } } }
    secrets { ike-1 { secret = "made up for the test" } }
`;
}

export function gatewayDaemon(): string {
  return `include /etc/strongswan.conf
    charon-systemd { filelog { ike { path = /run/ike.log
          default = 1
          flush_line = yes } } install_routes = no
      install_virtual_ip = no
      plugins { vici { socket = unix:///run/charon.vici } } }
`;
}

/** What an agent in the guest is started with. */
export function agentConfig(mark: Mark, keySecret: unknown): string {
  return JSON.stringify({
    swarm: "lab",
    endpoint: nameOf(mark),
    device: "wg0",
    listenPort: PORT,
    addresses: [`10.98.0.${mark}/32`],
    routes: ["10.66.0.0/16", "10.67.0.0/16"],
    implementation: "kernel",
    socketPath: "/run/agent.sock",
    reflexSocket: "/run/reflex.sock",
    collectorSocket: "/run/collector.sock",
    vault: { socketPath: "/run/vault.sock", auth: { method: "approle", credentialsFile: "/run/config/agent.approle" } },
    keySecret,
    stateDir: "/run/state",
    place: { zone: `zone-${mark}` },
    ipsec: { viciSocket: "/run/charon.vici" },
  });
}

/** What the balancer is to hold. */
export function desiredState(
  { epoch, marks }: { readonly epoch: number; readonly marks: readonly Mark[] },
  swarmPublicKey: string,
  agents: (mark: Mark) => string,
): object {
  return {
    operation: `test/${epoch}`,
    swarm: "lab",
    epoch,
    vip: { v4: VIP, port: PORT },
    algorithm: "consistent-hash",
    swarmPublicKey,
    members: marks.map((mark) => ({
      endpoint: nameOf(mark),
      weight: 100,
      draining: false,
      link: {
        device: outer(mark).device,
        mac: outer(mark).mac,
        returnDevice: inner(mark).device,
        returnMac: inner(mark).mac,
        probeAddress: outerAddress(mark),
        probeInnerAddress: `10.67.0.${mark}`,
        agent: agents(mark),
      },
    })),
    pins: [],
    returnRoutes: [],
    // An emulated processor that others keep from its turn answers late.
    outlier: { probeIntervalMs: 200, probeTimeoutMs: 190, missesToEject: 4, ejectedShareMaxPercent: 50 },
  };
}
