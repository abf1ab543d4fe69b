/**
 * Who a process is, as its certificate says it: a URI in the subject's alternative names. `spiffe://foreshift/control` for a process of
 * the control plane, `spiffe://foreshift/agent/SWARM.ENDPOINT` for an endpoint's agent.
 */
import { EndpointName, SwarmName } from "./steering.ts";
import { agentRole, VAULT_PROCESSES, type VaultProcess } from "./vault-layout.ts";

const TRUST_DOMAIN = "spiffe://foreshift/";
const AGENT = "agent/";

export type Identity =
  | { readonly kind: "process"; readonly process: VaultProcess }
  | { readonly kind: "agent"; readonly swarm: string; readonly endpoint: string };

/** The URI of a process of the control plane. */
export function processIdentity(process: VaultProcess): string {
  return `${TRUST_DOMAIN}${process}`;
}

/** The URI of an endpoint's agent. */
export function agentIdentity(swarm: string, endpoint: string): string {
  return `${TRUST_DOMAIN}${AGENT}${agentRole(swarm, endpoint)}`;
}

/** Undefined unless it is exactly such a URI: a certificate that says anything else is nobody's. */
export function parseIdentity(uri: string): Identity | undefined {
  if (!uri.startsWith(TRUST_DOMAIN)) return undefined;
  const name = uri.slice(TRUST_DOMAIN.length);
  const process = VAULT_PROCESSES.find((known) => known === name);
  if (process !== undefined) return { kind: "process", process };
  if (!name.startsWith(AGENT)) return undefined;
  const [swarm, endpoint, ...rest] = name.slice(AGENT.length).split(".");
  if (rest.length > 0 || !SwarmName.safeParse(swarm).success || !EndpointName.safeParse(endpoint).success) return undefined;
  return { kind: "agent", swarm: swarm ?? "", endpoint: endpoint ?? "" };
}
