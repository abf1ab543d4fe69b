/**
 * Configuration of the lab's process, as the supervisor writes it.
 */
import { z } from "zod";
import { IdentityConfig } from "../drivers/identity/config.ts";
import { VaultConfig } from "../drivers/vault/config.ts";
import { LIMITS } from "../models/limits.ts";
import { PROCESSORS } from "../models/patience.ts";
import { PublicKey, SecretRef } from "../models/session.ts";
import { SwarmName } from "../models/steering.ts";
import { CLIENT_HOSTS_MAX, SESSIONS_PER_HOST_MAX } from "./clients.ts";

const path = z.string().startsWith("/", "expected an absolute path");

export const LabConfig = z.strictObject({
  swarm: SwarmName,
  vip: z.strictObject({ v4: z.ipv4(), v6: z.ipv6().optional(), port: z.number().int().min(1).max(65_534) }),
  /** The key that clients know the swarm by. Its private half is the agents' business. */
  swarmPublicKey: PublicKey,
  keySecret: SecretRef,
  /** Client hosts, and WireGuard sessions on each. */
  clients: z.number().int().min(1).max(CLIENT_HOSTS_MAX),
  sessionsPerClient: z.number().int().min(1).max(SESSIONS_PER_HOST_MAX).default(1),
  /** Sessions that send nothing until they are asked to join (`POST /v1/growth`). */
  spareSessions: z.number().int().min(0).max(SESSIONS_PER_HOST_MAX).default(0),
  /** Packets a second that a machine takes from clients, and as many from servers; more are dropped. Absent: as many as it can. */
  packetAllowancePerSecond: z.number().int().min(1).optional(),
  /** Machines that are launched at start; 0 leaves it to whoever applies the swarm file. */
  endpoints: z.number().int().min(0).max(LIMITS.lab.endpointsMax).default(0),
  ghosts: z.number().int().min(0).max(LIMITS.lab.endpointsMax).default(0),
  /** Share of the clients, 0..1, that reach the VIP by IPv6. */
  ipv6ClientShare: z.number().min(0).max(1).default(0),
  /** For each session and direction; 0 for none. */
  packetsPerSecond: z.number().int().min(0).max(5_000).default(100),
  tcpBytesPerSecond: z.number().int().min(0).max(10_000_000).default(50_000),
  socketPath: path,
  agentSocketDir: path,
  reflexSocket: path,
  collectorSocket: path,
  /** How this process reaches Vault, to give each machine's agent a login of its own; the agents reach it the same way. */
  vault: VaultConfig,
  /** Folder of this process's certificate; with it the agents, too, speak with certificates only. */
  identity: IdentityConfig.optional(),
  /** Of the clients, who read their own preshared keys; absent: they take none. */
  clientsVault: VaultConfig.optional(),
  /** Configuration of `workers/reflex.ts`, which is kept running beside the balancer; absent: none is started. */
  reflexConfigFile: path.optional(),
  /** What machines are: namespaces of this machine, or virtual machines. */
  hypervisor: z.enum(["netns", "qemu"]).default("netns"),
  /** Of the machines. */
  processors: z.enum(PROCESSORS).default("own"),
  /** Folder of the image that virtual machines boot from. */
  image: path.optional(),
  /** Of each machine. */
  memoryBytes: z.number().int().min(LIMITS.lab.memoryBytesMin).default(LIMITS.lab.memoryBytesDefault),
  /** Feed of outside events that the lab's incidents are announced in (docs/operations.md). */
  outsideEventsFile: path,
  stateDir: path,
  logDir: path,
});
export type LabConfig = z.infer<typeof LabConfig>;
