/**
 * A client's WireGuard session as Foreshift knows it: enough for another endpoint to take it over, and no key material.
 */
import { z } from "zod";

/** Where a secret lives in Vault; the secret itself never travels. */
export const SecretRef = z.strictObject({ path: z.string().min(1), version: z.number().int().positive() });
export type SecretRef = z.infer<typeof SecretRef>;

/** A WireGuard public key: 32 bytes, base64. */
export const PublicKey = z.string().regex(/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw480]=$/, "expected 32 bytes in base64");

/** `address:port` or `[address]:port`. */
export const SocketAddress = z.string().regex(/^(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:.]+\]):\d{1,5}$/i, "expected address:port");

/** A client that may connect: what every endpoint of the swarm configures as a peer. */
export const Peer = z.strictObject({
  publicKey: PublicKey,
  /** Reference to the preshared key; absent when the peer has none. */
  presharedKey: SecretRef.optional(),
  /** Addresses inside the tunnel, without prefix length (host routes). */
  innerAddresses: z.array(z.string().min(2)).min(1),
  /** Version of its row in the source of truth: of two words about a peer the later one holds. */
  revision: z.number().int().nonnegative().optional(),
});
export type Peer = z.infer<typeof Peer>;

/** One live session: a peer that has completed a handshake with an endpoint. */
export const SessionState = Peer.extend({
  /** Endpoint that holds the session's keys. */
  endpoint: z.string().min(1),
  /** Where the client was last heard from. */
  outerAddress: SocketAddress,
  /** Unix time of the last completed handshake, in milliseconds. */
  lastHandshakeMs: z.number().int().nonnegative(),
  rxBytes: z.number().int().nonnegative(),
  txBytes: z.number().int().nonnegative(),
  /** Endpoint that takes over when this one is lost. */
  shadow: z.string().min(1).optional(),
  /** Grows with every change of any session of the swarm; what catch-up counts by. */
  version: z.number().int().nonnegative(),
  /** Unix time of the observation, in milliseconds, by the endpoint's clock. */
  updatedAtMs: z.number().int().nonnegative(),
});
export type SessionState = z.infer<typeof SessionState>;
