/**
 * The door of a process's API: who has no certificate of ours, a revoked one, or no business here does not come in, and a crowd at the door
 * costs a bounded amount of memory. Certificates are replaced while connections stand.
 */
import type { Server as HttpServer } from "node:http";
import type { Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { FastifyRequest } from "fastify";
import type { ProcessIdentity } from "../drivers/identity/process-identity.ts";
import { ForeshiftError } from "../models/errors.ts";
import type { Identity } from "../models/identity.ts";
import { IDENTITY_LIMITS } from "../models/limits-identity.ts";

export interface Door {
  readonly identity: ProcessIdentity;
  readonly accepts: (uri: string, peer: Identity) => boolean;
  /** Counts of connections by what became of them. */
  readonly counts: DoorCounts;
}

/** Connections that were not let in, by why. */
export class DoorCounts {
  readonly #refused = new Map<RefusalKind, number>(REFUSALS.map((kind) => [kind, 0]));
  open = 0;

  refuse(kind: RefusalKind): void {
    this.#refused.set(kind, (this.#refused.get(kind) ?? 0) + 1);
  }

  get refused(): ReadonlyMap<RefusalKind, number> {
    return this.#refused;
  }
}

/** No handshake, or one that failed; not for us or revoked; more of one owner, or in all, than there may be. */
const REFUSALS = ["handshake", "identity", "per-peer", "crowd"] as const;
export type RefusalKind = (typeof REFUSALS)[number];

const peers = new WeakMap<object, Identity>();
/** The serial that was shown to whoever is at the other end. */
const shown = new WeakMap<object, string>();

/** Who asks; undefined on a unix socket without certificates, which only its owner can reach. */
export function peerOf(request: FastifyRequest): Identity | undefined {
  return peers.get(request.raw.socket);
}

/** Its connection is older than our certificate: it is to be given up when this request is answered. */
export function isOfFormerCertificate(request: FastifyRequest, { certificate }: Pick<ProcessIdentity, "certificate">): boolean {
  const serial = shown.get(request.raw.socket);
  return serial !== undefined && serial !== certificate.serial;
}

/** NOT_YOURS unless the asker may. Without certificates everybody who reaches the socket is its owner. */
export function demand(request: FastifyRequest, what: string, may: (peer: Identity) => boolean): void {
  const peer = peerOf(request);
  if (peer === undefined || may(peer)) return;
  throw new ForeshiftError("NOT_YOURS", { value: nameOf(peer), detail: what });
}

export function nameOf(peer: Identity): string {
  return peer.kind === "process" ? peer.process : `the agent of ${peer.endpoint} (${peer.swarm})`;
}

export interface Gate {
  readonly server: Server;
  /** Ends every connection, at whatever stage it is. */
  dropAll(): void;
}

/** Hands connections that were let in to `http`. The caller listens. */
export function tlsGate({ identity, accepts, counts }: Door, http: HttpServer): Gate {
  const { connectionsMax, connectionsPerPeerMax } = IDENTITY_LIMITS;
  const { handshakeTimeoutMs = IDENTITY_LIMITS.handshakeTimeoutMs } = identity;
  const perPeer = new Map<string, number>();
  const options = { ...identity.secureOptions(), requestCert: true, rejectUnauthorized: true };
  const gate = createServer({ ...options, handshakeTimeout: handshakeTimeoutMs });
  const crowd = new Crowd(counts);
  gate.maxConnections = connectionsMax;
  gate.on("drop", () => counts.refuse("crowd"));
  const raws = new Set<Socket>();
  gate.on("connection", (raw: Socket) => {
    raws.add(raw);
    raw.once("close", () => raws.delete(raw));
    crowd.came(raw);
  });
  gate.on("tlsClientError", (_, socket) => {
    counts.refuse("handshake");
    socket.destroy();
  });
  gate.on("secureConnection", (socket: TLSSocket) => {
    crowd.wentIn(socket);
    // What is written to it after it was ended is nobody's loss.
    socket.on("error", () => socket.destroy());
    const admission = identity.admit(socket, accepts);
    if ("refused" in admission) {
      counts.refuse("identity");
      return socket.destroy();
    }
    const name = nameOf(admission.peer);
    const open = perPeer.get(name) ?? 0;
    if (open >= connectionsPerPeerMax) {
      counts.refuse("per-peer");
      return socket.destroy();
    }
    perPeer.set(name, open + 1);
    counts.open += 1;
    socket.once("close", () => {
      counts.open -= 1;
      const left = (perPeer.get(name) ?? 1) - 1;
      if (left > 0) perPeer.set(name, left);
      else perPeer.delete(name);
    });
    peers.set(socket, admission.peer);
    // Ours may have been replaced since the handshake began.
    shown.set(socket, socket.getX509Certificate()?.serialNumber ?? "");
    http.emit("connection", socket);
  });
  identity.onRenewed(() => gate.setSecureContext(identity.secureOptions()));
  return {
    server: gate,
    dropAll: () => {
      for (const raw of raws) raw.destroy();
    },
  };
}

/** Strangers whose handshake is under way, over TCP; the oldest gives way, so that one who means it gets through. */
class Crowd {
  readonly #counts: DoorCounts;
  readonly #waiting = new Map<string, Socket>();

  constructor(counts: DoorCounts) {
    this.#counts = counts;
  }

  came(raw: Socket): void {
    const key = keyOf(raw);
    if (key === undefined) return;
    this.#waiting.set(key, raw);
    raw.once("close", () => {
      if (this.#waiting.get(key) === raw) this.#waiting.delete(key);
    });
    if (this.#waiting.size <= IDENTITY_LIMITS.handshakesPendingMax) return;
    const oldest = this.#waiting.entries().next().value;
    if (oldest === undefined) return;
    this.#waiting.delete(oldest[0]);
    this.#counts.refuse("crowd");
    oldest[1].destroy();
  }

  wentIn(socket: TLSSocket): void {
    const key = keyOf(socket);
    if (key !== undefined) this.#waiting.delete(key);
  }
}

/** Undefined on a unix socket, whose strangers are of the same user. */
function keyOf({ remoteAddress, remotePort }: Socket): string | undefined {
  return remoteAddress === undefined ? undefined : `${remoteAddress} ${remotePort}`;
}
