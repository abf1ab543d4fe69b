/**
 * Connections to another process of Foreshift, both ends authenticated: over its unix socket, or over TCP.
 */
import { connect, type TLSSocket } from "node:tls";
import { ForeshiftError } from "../../models/errors.ts";
import { type Identity, processIdentity } from "../../models/identity.ts";
import { LIMITS } from "../../models/limits.ts";
import type { VaultProcess } from "../../models/vault-layout.ts";
import type { Dial } from "../http-unix.ts";
import type { ProcessIdentity } from "./process-identity.ts";

export interface DialOptions {
  /** Whether that is who should answer there. */
  readonly expects: (uri: string, peer: Identity) => boolean;
  /** False for fetching the revocation list itself, which is signed. */
  readonly checked?: boolean;
}

/** UNREACHABLE when nobody answers as they should; UNAUTHORISED when somebody else answers, or one whose certificate is revoked. */
export function dialer(identity: ProcessIdentity, { expects, checked = true }: DialOptions): Dial {
  const { handshakeTimeoutMs = LIMITS.http.connectTimeoutMs } = identity;
  const dial = (where: string): Promise<TLSSocket> =>
    new Promise((resolve, reject) => {
      const socket = connect({
        ...addressOf(where),
        secureContext: identity.secureContext(),
        // The name is in the certificate's URI, which admit() looks at.
        checkServerIdentity: () => undefined,
      });
      const fail = (error: Error) => {
        socket.destroy();
        reject(error);
      };
      socket.setTimeout(handshakeTimeoutMs, () => fail(unanswered(where, handshakeTimeoutMs)));
      socket.once("error", fail);
      socket.once("secureConnect", () => {
        const admission = identity.admit(socket, expects, checked);
        if ("refused" in admission)
          return fail(
            new ForeshiftError("UNAUTHORISED", { field: where, detail: `who answers is not trusted: ${admission.refused}` }),
          );
        socket.setTimeout(0);
        socket.off("error", fail);
        resolve(socket);
      });
    });
  return Object.assign(dial, { onRenewed: (callback: () => void) => identity.onRenewed(callback) });
}

/** To a process of the control plane, by name. */
export function dialProcess(identity: ProcessIdentity, process: VaultProcess): Dial {
  const expected = processIdentity(process);
  return dialer(identity, { expects: (uri) => uri === expected });
}

/** To an endpoint's agent; whichever it is, unless it is said. */
export function dialAgent(identity: ProcessIdentity, endpoint?: string): Dial {
  return dialer(identity, {
    expects: (_, peer) => peer.kind === "agent" && (endpoint === undefined || peer.endpoint === endpoint),
  });
}

/** How `node:net` and `node:tls` want an address. */
export function addressOf(where: string): { readonly path: string } | { readonly host: string; readonly port: number } {
  const tcp = /^\[?([^/[\]]+)\]?:(\d{1,5})$/.exec(where);
  return tcp?.[1] === undefined ? { path: where } : { host: tcp[1], port: Number(tcp[2]) };
}

function unanswered(where: string, timeoutMs: number): ForeshiftError {
  const detail = `no handshake within ${timeoutMs} ms`;
  return new ForeshiftError("UNREACHABLE", { field: "a process", value: where, detail });
}
