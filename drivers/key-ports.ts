/**
 * What a rotation asks of the world beside agents and store: versions of keys in Vault, and the hook by which clients are reached.
 * Keys pass by reference; nobody who calls these ever holds one.
 */
import type { SecretRef } from "../models/session.ts";
import type { MemberLink } from "../models/steering.ts";
import type { Operation, PeerKey } from "./ports.ts";

/** Versions of keys. UNREACHABLE and NOT_READY may pass; UNAUTHORISED does not by itself. */
export interface KeyVault {
  /** 0: there is none yet. */
  newestVersion(request: { path: string }): Promise<number>;
  /** Writes version `after + 1` with a fresh preshared key, once: asked again, it answers the version that is there. */
  issuePresharedKey(request: { path: string; after: number }): Promise<SecretRef>;
  /** A fresh static key pair in a version after `after`. An attempt whose answer was lost is destroyed, for nobody knows its public key. */
  issueStaticKey(request: { path: string; after: number }): Promise<{ readonly secret: SecretRef; readonly publicKey: string }>;
  /** Destroys every version but this one, or (undefined) every one. Answers how many it destroyed. */
  destroyOthers(request: { path: string; keep: number | undefined }): Promise<number>;
  /** Destroys these versions, and no other. */
  destroy(request: { path: string; versions: readonly number[] }): Promise<void>;
}

/** The authority that signs processes' certificates. */
export interface Certificates {
  /** On the revocation list, which is made anew at once; doing it again changes nothing. INVALID_FIELD for a serial it did not sign. */
  revoke(serial: string): Promise<void>;
  /** Serials of the certificates of this identity (a URI of models/identity.ts) that have not ended, revoked ones among them. */
  serialsOf(identity: string): Promise<readonly string[]>;
}

/** How endpoints' agents are somebody to Vault. */
export interface AgentLogins {
  /**
   * The tokens that the agent has are of no use from then on, and it logs in no more; one on EC2 can until its instance has ended. Doing it
   * again changes nothing.
   */
  end(agent: { readonly swarm: string; readonly endpoint: string }): Promise<void>;
}

/** A process with a certificate of its own: an endpoint's agent, or one of the control plane. */
export interface CertificateHolder {
  readonly name: string;
  /** Its serial, and those of the certificates at the other ends of the connections that are open there. */
  held(): Promise<{ readonly serial: string; readonly peers: readonly string[] }>;
  /** Replaces the certificate if it is this one still; answers the serial of the one it has then. Connections that are open go on. */
  renew(after: string): Promise<string>;
  /** The serial that it shows to a new connection; undefined of one that nobody connects to. */
  shown(): Promise<string | undefined>;
}

/** Those of them that are not endpoints'. */
export interface CertificateHolders {
  readonly processes: readonly CertificateHolder[];
  agent(link: MemberLink, endpoint: string): CertificateHolder;
}

/** The key that seals payloads and stays in Vault, and the data keys that it wraps. */
export interface PayloadKeys {
  /** The version that wraps from here on. */
  latestVersion(): Promise<number>;
  /** A further version. Answers which it is. */
  rotate(): Promise<number>;
  /** Wraps a bounded batch of data keys anew, by the latest version. `left`: those that are still wrapped by an older one. */
  rewrapSome(): Promise<{ readonly rewrapped: number; readonly left: number }>;
  /** Gives up the versions that no data key needs; NOT_READY while one does. Answers the oldest that is left. */
  retireOld(): Promise<number>;
}

/** What a hook made of it: the clients it reached and that obeyed, and the others. */
export interface Provisioned {
  /** Public keys. */
  readonly taken: readonly string[];
  readonly refused: readonly string[];
}

/** What a client has to know of one of its swarm's static keys. */
export interface IdentityOrder extends Operation {
  readonly swarm: string;
  /** Of the clients. */
  readonly publicKeys: readonly string[];
  /** The key, and its port at the VIP. */
  readonly identity: { readonly publicKey: string; readonly port: number };
}

/** Reaches the clients' side: an MDM, an app's own channel, a configuration service; in the lab, the clients themselves. */
export interface ClientProvisioner {
  /** The clients fetch these keys and keep them ready. */
  distribute(request: Operation & { swarm: string; keys: readonly PeerKey[] }): Promise<Provisioned>;
  /**
   * The clients use these keys from their next handshake on (absent: none); sessions go on. With `handshake` they also begin one at
   * once: WireGuard expires its session for sending only, holds what it has to send until the answer is there, and receives on.
   */
  activate(request: Operation & { swarm: string; keys: readonly PeerKey[]; handshake: boolean }): Promise<Provisioned>;
  /** The clients bring up a way to this key beside the one they use: an interface of its own with their key and addresses. They shake hands by it and send as before. */
  bringIdentity(request: IdentityOrder): Promise<Provisioned>;
  /** They shake hands anew by the way to this key, send by it from then on, and go on taking what comes by the other. */
  useIdentity(request: IdentityOrder): Promise<Provisioned>;
  /** They take the way to this key down. One that they still use is refused. */
  dropIdentity(request: IdentityOrder): Promise<Provisioned>;
}
