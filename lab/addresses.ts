/**
 * Who has which address in the lab: a pure function of a number, so that nothing has to be allocated or remembered.
 */

/** Point-to-point links of endpoint `n`, each a /30, in blocks of 1024. */
const LINKS_PER_BLOCK = 1024;

export const EDGE = { v4: "198.18.0.1", v6: "fd00:18::1" } as const;
export const LB = { v4: "198.18.0.2", v6: "fd00:18::2" } as const;
export const ROUTER_INNER = "10.99.0.254";
export const SERVER_INNER = "10.99.0.1";
export const INNER = { clients: "10.66.0.0/16", probes: "10.67.0.0/16", servers: "10.99.0.0/16" } as const;
/** What endpoints answer as on their tunnel's side, e.g. in ICMP errors. */
export const ENDPOINT_INNER = "10.66.255.254/32";
/** Plain UDP echo, for probes through the tunnel. */
export const ECHO_PORT = 7;
/** Session `i` of the lab (counted over all clients) has its own UDP port on the server, so that each has its own socket buffer. */
export const STREAM_PORT_BASE = 20_000;
export const DOWNLOAD_PORT = 8_000;

/** Two ends of a /30 and of a /64, and the MAC address of the endpoint's end. */
export interface LinkAddresses {
  readonly far: string;
  readonly near: string;
  readonly far6: string;
  readonly near6: string;
  readonly mac: string;
}

/** `near` is the endpoint's end of its three links: from the balancer, to the edge, to the router. */
export function endpointLinks(n: number): { lb: LinkAddresses; up: LinkAddresses; inner: LinkAddresses } {
  return { lb: link(16, n), up: link(32, n), inner: link(48, n) };
}

export function probeInnerAddress(n: number): string {
  return `10.67.${(n >> 8) & 255}.${n & 255}`;
}

/** Client `n`'s network: the edge holds .1, the client starts at .2 and roams from there. */
export function clientOuter(n: number, host: number): { v4: string; v6: string } {
  return { v4: `198.18.${100 + n}.${host}`, v6: `fd00:18:${100 + n}::${host.toString(16)}` };
}

/** Inner address of session `k` (from 0) of client `n` (from 1). */
export function clientInner(n: number, k: number): string {
  return `10.66.${n}.${k + 1}`;
}

function link(block: number, n: number): LinkAddresses {
  const at = 4 * (n % LINKS_PER_BLOCK);
  const prefix = `198.18.${block + (at >> 8)}`;
  const prefix6 = `fd00:${block}:${n.toString(16)}:`;
  const octet = (value: number) => (value & 255).toString(16).padStart(2, "0");
  return {
    far: `${prefix}.${(at & 255) + 1}`,
    near: `${prefix}.${(at & 255) + 2}`,
    far6: `${prefix6}:1`,
    near6: `${prefix6}:2`,
    mac: `02:f5:00:${octet(block)}:${octet(n >> 8)}:${octet(n)}`,
  };
}
