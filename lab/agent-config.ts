/** The configuration that a machine's agent is started with. */
import { join } from "node:path";
import { endpointLinks } from "./addresses.ts";
import type { BodyRequest } from "./machine-body.ts";
import { TUNNEL } from "./topology.ts";

/** Where the agent finds what it needs; paths as it sees them. */
export interface AgentPlaces {
  readonly socketPath: string;
  readonly reflexSocket: string;
  readonly collectorSocket: string;
  readonly credentialsFile: string;
  readonly stateDir: string;
  /** Where it reaches Vault otherwise than the lab's own process. */
  readonly vault?: { readonly socketPath: string; readonly callTimeoutMs: number | undefined };
}

export function agentConfig({ name, number, zone, config }: BodyRequest, places: AgentPlaces, more: object): string {
  const links = endpointLinks(number);
  const { credentialsFile, stateDir, vault, ...sockets } = places;
  const auth = { method: "approle", credentialsFile };
  return JSON.stringify({
    swarm: config.swarm,
    endpoint: name,
    device: "wg0",
    listenPort: config.vip.port,
    addresses: TUNNEL.addresses,
    routes: TUNNEL.routes,
    ...sockets,
    vault: { ...config.vault, ...vault, auth },
    keySecret: config.keySecret,
    stateDir,
    ...(config.identity === undefined ? {} : { identity: { ...config.identity, dir: join(stateDir, "identity") } }),
    place: { zone },
    memoryBytes: config.memoryBytes,
    probes: { address: links.up.near, balancer: links.lb.far },
    ...more,
  });
}
