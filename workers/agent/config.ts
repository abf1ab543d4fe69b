/**
 * Configuration of the agent; paths and references only, no secret.
 */
import { z } from "zod";
import { IdentityConfig } from "../../drivers/identity/config.ts";
import { VaultConfig } from "../../drivers/vault/config.ts";
import { LIMITS } from "../../models/limits.ts";
import { PlaceLabel } from "../../models/outside-events.ts";
import { SecretRef } from "../../models/session.ts";
import { EndpointName, SwarmName } from "../../models/steering.ts";
import { CloudConfig } from "./instance-notices.ts";

const paceMs = z.number().int().min(1).max(LIMITS.agent.paceMsMax);
const address = z.union([z.ipv4(), z.ipv6()]);

export const AgentConfig = z.strictObject({
  swarm: SwarmName,
  endpoint: EndpointName,
  /** WireGuard interface; Linux allows 15 characters. */
  device: z.string().regex(/^[a-z][a-z0-9-]{0,14}$/, "expected 1 to 15 of a-z, 0-9 and -, a letter first"),
  /** The one after it is taken as well while the static key is rotated. */
  listenPort: z.number().int().min(1).max(65_534),
  mtu: z.number().int().min(576).max(65_535).default(1_420),
  /** Addresses of the interface and prefixes routed into it, with prefix length. */
  addresses: z.array(z.string().includes("/")).default([]),
  routes: z.array(z.string().includes("/")).default([]),
  implementation: z.enum(["auto", "kernel", "userspace"]).default("auto"),
  socketPath: z.string().min(1),
  reflexSocket: z.string().min(1),
  collectorSocket: z.string().min(1),
  vault: VaultConfig,
  /** Mutual TLS with balancer, collector and control plane; absent: unix sockets that their owner alone can reach. */
  identity: IdentityConfig.optional(),
  /** The swarm's static key; field `privateKey`. */
  keySecret: SecretRef,
  stateDir: z.string().min(1),
  /** How often it does what it does again and again; a machine that gets little time has little left for the packets otherwise. */
  pace: z
    .strictObject({
      /** Of what is told to balancer and collector, and asked of them. */
      pushTimeoutMs: paceMs.default(LIMITS.agent.pushTimeoutMs),
      watchIntervalMs: paceMs.default(LIMITS.agent.watchIntervalMs),
      watchIntervalAdoptingMs: paceMs.default(LIMITS.agent.watchIntervalAdoptingMs),
      sessionsRepeatMs: paceMs.default(LIMITS.agent.sessionsRepeatMs),
    })
    .prefault({}),
  /** Folder of the endpoint's cgroup (v2, or v1's `cpuacct`), where its CPU time is counted. */
  cgroup: z.string().optional(),
  /** The endpoint has a machine to itself: CPU, pressure and memory are the machine's. */
  ownMachine: z.boolean().default(false),
  /** Memory that the endpoint may use, where it is less than its machine's: its share of memory is of this. */
  memoryBytes: z.number().int().min(1).optional(),
  /** The endpoint is an IPsec gateway as well: its strongSwan, and how often its kernel tells of counters (docs/ipsec.md). */
  ipsec: z
    .strictObject({
      viciSocket: z.string().startsWith("/").default("/var/run/charon.vici"),
      eventPackets: z.number().int().min(1).max(1_000).default(2),
      eventTenths: z.number().int().min(1).max(10).default(1),
    })
    .optional(),
  /** Where the endpoint is, when the swarm file does not say it of all of them. */
  place: z.strictObject({ region: PlaceLabel.optional(), zone: PlaceLabel.optional() }).optional(),
  /** Whose instance it runs on, where that says something of it beforehand. */
  cloud: CloudConfig.optional(),
  /** Ways that are measured: own address that other endpoints reach this one by, and the balancer's. Absent: none. */
  probes: z.strictObject({ address, balancer: address.optional() }).optional(),
});
export type AgentConfig = z.infer<typeof AgentConfig>;
