/** What the reflex is told at its start; everything else comes with the desired state. */
import { z } from "zod";
import { IdentityConfig } from "../../drivers/identity/config.ts";
import { VaultConfig } from "../../drivers/vault/config.ts";

const path = z.string().startsWith("/");
const device = z.string().min(1).max(15);

export const ReflexConfig = z.strictObject({
  socketPath: path,
  /** Mutual TLS with agents and control plane; absent: a unix socket that its owner alone can reach. */
  identity: IdentityConfig.optional(),
  vault: VaultConfig.optional(),
  /** Where the revocation list is had from; with `identity`. */
  collectorSocket: path.optional(),
  /** Desired state, events, sessions and the probe's key are kept here. */
  stateDir: path,
  /** Interface of this host from which clients' packets come. */
  edgeDevice: device,
  /** The router's network namespace, a path or a name below /run/netns; absent where the router is this host. */
  routerNetns: z.string().min(1).optional(),
  /** Interface of the router from which packets for clients come. */
  serverDevice: device,
  /** Members are IPsec gateways too: ESP and IKE to the VIP are steered as well (docs/ipsec.md). */
  ipsec: z.boolean().default(false),
  /** UDP echo service behind the endpoints. */
  probeEcho: z
    .strictObject({ address: z.ipv4(), port: z.number().int().min(1).max(65_535) })
    .default({ address: "10.99.0.1", port: 7 }),
});
export type ReflexConfig = z.infer<typeof ReflexConfig>;
