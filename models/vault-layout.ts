/**
 * Where things lie in Vault, and who comes there: mounts, the processes that log in, the names of keys. Set-up writes what the drivers
 * read.
 */
import { z } from "zod";

const mount = z.string().regex(/^[\w.-]+(\/[\w.-]+)*$/, "expected a mount path without slashes at its ends");

export const VaultMounts = z.strictObject({
  /** KV v2: the swarms' static keys and preshared keys. */
  kv: mount.default("foreshift"),
  transit: mount.default("transit"),
  /** The intermediate authority that signs processes' certificates, and the root above it. */
  pki: mount.default("foreshift-pki"),
  pkiRoot: mount.default("foreshift-pki-root"),
  /** AppRoles: one for each kind of process, and, on a mount of their own, one for each endpoint's agent. */
  approle: mount.default("foreshift"),
  agents: mount.default("foreshift-agents"),
  /** AWS logins of endpoints on EC2; below it one mount for each swarm, so that a login's mount says whose endpoint it is. */
  aws: mount.default("foreshift-aws"),
});
export type VaultMounts = z.infer<typeof VaultMounts>;

/** Each has an AppRole and a policy (vault/policies) of its name. Agents have one policy, and an AppRole for each endpoint. */
export const VAULT_PROCESSES = [
  "provision",
  "hypervisor",
  "control",
  "collector",
  "reflex",
  "trainer",
  "codec",
  "operator",
  "clients",
] as const;
export type VaultProcess = (typeof VAULT_PROCESSES)[number];

/** Transit keys: of session state in PostgreSQL, and of payloads in Temporal. */
export const TRANSIT_KEYS = { sessions: "sessions", payloads: "payloads" } as const;

/** Seals the keys of a swarm's IPsec SAs on their way to their shadows; its agents alone may use it. */
export function ipsecKey(swarm: string): string {
  return `ipsec-${swarm}`;
}

/** The PKI role that signs for processes. */
export const PKI_ROLE = "process";

/** The AppRole of an endpoint's agent. Names have no dots, so that it reads one way only. */
export function agentRole(swarm: string, endpoint: string): string {
  return `${swarm}.${endpoint}`;
}

/** The policy of the agents of one swarm. */
export function agentPolicy(swarm: string): string {
  return `foreshift-agent-${swarm}`;
}

/** Where the endpoints of a swarm log in as instances of EC2; its one role has the name `agent`. */
export function awsMount(mounts: Pick<VaultMounts, "aws">, swarm: string): string {
  return `${mounts.aws}/${swarm}`;
}
export const AWS_ROLE = "agent";

/** What an instance signs beside its request, so that it is of no use at another Vault. */
export function awsServerId(swarm: string): string {
  return `foreshift/${swarm}`;
}
