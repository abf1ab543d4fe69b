/**
 * Keys and their versions: which word about a peer holds when words arrive in any order, how a rotation is cut into batches, and what
 * runs are called. References only; a key itself is nowhere in models/.
 */

import { ForeshiftError } from "./errors.ts";
import { KEY_LIMITS } from "./limits-keys.ts";
import type { Peer, SecretRef } from "./session.ts";

/** In this order when all are rotated: what may have to wait for clients comes last. */
export const KEY_KINDS = ["preshared", "transit", "certificates", "static"] as const;
export type KeyKind = (typeof KEY_KINDS)[number];

/** Whose the one transit key is: it seals every swarm's payloads. The scope of the stop switch that holds everybody. */
const EVERYBODY = "*";

/** What a rotation that is asked for in a swarm's name is about: the swarm, or everybody. */
export function scopeOf(kind: KeyKind | "all", swarm: string): string {
  return kind === "transit" ? EVERYBODY : swarm;
}

/** The id is the run's mutex: one rotation of a kind at a time, of the transit key in all. */
export function rotateWorkflowId(swarm: string, kind: KeyKind | "all"): string {
  return `rotate/${scopeOf(kind, swarm)}/${kind}`;
}

/** KV v2 path of a client's preshared key, below the mount. A public key is base64, and `/` would be a folder. */
export function presharedPath(swarm: string, publicKey: string): string {
  return `swarms/${swarm}/peers/${publicKey.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
}

/** A client that is out for good, and the version of its row that says so. */
export interface RevokedPeer {
  readonly publicKey: string;
  readonly revision: number;
}

/** What an endpoint was told of a peer: to have it like this, or to have it no more. */
export type PeerWord = { readonly peer: Peer } | { readonly revoked: RevokedPeer };

/**
 * Which of two words about one peer holds. The later row of the source of truth wins, in whatever order the words came. A word without
 * a revision is a session's own (what another endpoint believed): it tells of a peer that is unknown, and corrects nothing.
 */
export function heed(held: PeerWord | undefined, offered: PeerWord): PeerWord {
  if (held === undefined) return offered;
  const before = revisionOf(held);
  const now = revisionOf(offered);
  if (now === undefined) return before === undefined ? offered : held;
  return before === undefined || now > before ? offered : held;
}

function revisionOf(word: PeerWord): number | undefined {
  return "peer" in word ? word.peer.revision : word.revoked.revision;
}

/** Names one version of one key. */
export function refName(ref: SecretRef): string {
  return `${ref.path}@${ref.version}`;
}

/** A client's key before and after; `from` is absent where it had none. */
export interface KeyChange {
  readonly publicKey: string;
  readonly innerAddresses: readonly string[];
  readonly from?: SecretRef;
  readonly to: SecretRef;
}

/**
 * Clients of the next batch: one at first, so that what is wrong with all of them is found out on one; then twice as many each time, up
 * to `largest`.
 */
export function batchSize(batchesDone: number, largest: number): number {
  if (!Number.isInteger(largest) || largest < 1)
    throw new ForeshiftError("INVALID_FIELD", {
      field: "batchClients",
      value: largest,
      detail: "expected a whole number above 0",
    });
  return Math.min(largest, 2 ** Math.min(batchesDone, KEY_LIMITS.doublingsMax));
}

/**
 * Versions of a secret that a finished rotation has no more use for: all but the one in use (undefined: none is), and
 * those that are gone already.
 */
export function versionsToDestroy(
  versions: readonly { version: number; destroyed: boolean }[],
  keep: number | undefined,
): readonly number[] {
  return versions.filter(({ version, destroyed }) => version !== keep && !destroyed).map(({ version }) => version);
}

/** What a rotation is asked for with. */
export interface RotateInput {
  readonly swarm: string;
  readonly kind: KeyKind;
  /** Who asks, and why; for the audit trail. */
  readonly by: string;
  readonly reason: string;
  /** Set by continue-as-new: how far it is, and the clients that have moved to another static key. */
  readonly carried?: RotationProgress;
  readonly moved?: readonly string[];
}

/** Where a rotation is. Public keys and counts; nothing secret. */
export interface RotationProgress {
  readonly startedAtMs: number;
  readonly batches: number;
  /** What there is to do in all: clients, or data keys. */
  readonly total: number;
  readonly done: number;
  /** Of these, clients without traffic: their next handshake uses the new key. */
  readonly idle: number;
  /** Clients that the hook did not reach: they keep the key they have. The first of them are named. */
  readonly skipped: number;
  readonly named: readonly string[];
  /** The last client that was dealt with; what comes next follows it. */
  readonly after: string | undefined;
  /** Milliseconds spent in each phase. */
  readonly phaseMs: Readonly<Record<string, number>>;
}

export type RotationOutcome =
  /** All there was to do is done; what was skipped is named. */
  | "rotated"
  /** A batch could not be brought to an end: it was undone, the ones before it stay. */
  | "undone"
  /** It could be neither finished nor undone; a person was paged. */
  | "failed";

export interface RotationStatus extends RotationProgress {
  readonly swarm: string;
  readonly kind: KeyKind;
  readonly by: string;
  readonly reason: string;
  readonly phase: string;
  readonly outcome: RotationOutcome | undefined;
  readonly text: string;
}

export interface KeysRotated extends RotationProgress {
  readonly workflowId: string;
  readonly kind: KeyKind;
  readonly outcome: RotationOutcome;
  readonly text: string;
}

export function newProgress(startedAtMs: number): RotationProgress {
  return { startedAtMs, batches: 0, total: 0, done: 0, idle: 0, skipped: 0, named: [], after: undefined, phaseMs: {} };
}

export interface RevokeClientsInput {
  readonly swarm: string;
  /** Public keys, or addresses inside the tunnel. */
  readonly clients: readonly string[];
  readonly by: string;
  readonly reason: string;
}

export interface ClientsRevoked {
  readonly workflowId: string;
  readonly publicKeys: readonly string[];
  readonly endpoints: readonly {
    readonly endpoint: string;
    /** From the order until no session of theirs was left there; undefined: it could not be asked. */
    readonly outAfterMs: number | undefined;
  }[];
  /** Every version of their preshared keys is destroyed. */
  readonly keysDestroyed: boolean;
  readonly text: string;
}

export interface RevokeEndpointInput {
  readonly swarm: string;
  readonly endpoint: string;
  readonly by: string;
  readonly reason: string;
}

/** Of a process, by name: its serial before and after. */
export interface CertificateChange {
  readonly name: string;
  readonly from: string;
  readonly to: string;
}

export interface HeldCertificates {
  readonly held: readonly { readonly name: string; readonly serial: string }[];
  readonly unreached: readonly { readonly name: string; readonly why: string }[];
}

/** Names of processes. */
export interface CertificatesSeen {
  /** Nobody has seen their new one. */
  readonly unseen: readonly string[];
  /** Connections are open still that were made with the old one. */
  readonly lingering: readonly string[];
}

/** Certificates of a machine that has ended. */
export interface RetireIdentityInput {
  readonly swarm: string;
  readonly endpoint: string;
  readonly reason: string;
}

export function retireWorkflowId(swarm: string, endpoint: string): string {
  return `retire/${swarm}/${endpoint}`;
}

export interface EndpointRevoked {
  readonly workflowId: string;
  readonly endpoint: string;
  /** From the order until the balancer led nothing to it any more; undefined: that was not seen in time. */
  readonly outAfterMs: number | undefined;
  /** Of its certificates that are on the revocation list. */
  readonly serials: readonly string[];
  readonly text: string;
}

export interface RotateAllInput {
  readonly swarm: string;
  readonly kinds: readonly KeyKind[];
  readonly by: string;
  readonly reason: string;
  /** Waits for a rotation of a kind that runs already, and then makes one; else that kind is left out. */
  readonly waits: boolean;
}

export interface RotatedAll {
  readonly workflowId: string;
  readonly outcome: "rotated" | "incomplete";
  readonly rotations: readonly KeysRotated[];
  /** Kinds that were undone, or failed. */
  readonly failed: readonly KeyKind[];
  readonly text: string;
}

export interface RevokeCertificateInput {
  /** For the audit trail. */
  readonly swarm: string;
  /** Hexadecimal, with or without colons. */
  readonly serial: string;
  readonly by: string;
  readonly reason: string;
}

export interface CertificateRevoked {
  readonly workflowId: string;
  readonly serial: string;
  readonly text: string;
}
