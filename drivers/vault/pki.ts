/**
 * Certificates: the PKI engine. A process asks for its own; whom it is for follows from the AppRole that it logged in with.
 */
import { X509Certificate } from "node:crypto";
import { z } from "zod";
import { KEY_LIMITS } from "../../models/limits-keys.ts";
import { PKI_ROLE } from "../../models/vault-layout.ts";
import { uriOf } from "../identity/authority.ts";
import { requestCertificate } from "./certificate-request.ts";
import type { VaultSession } from "./session.ts";

export interface IssuedCertificate {
  /** PEM; the private key was made in this process and was never sent. */
  readonly privateKey: string;
  readonly certificate: string;
  /** PEM of the authorities between it and the root, the nearest first. */
  readonly chain: string;
  /** PEM of the root that others are checked against. */
  readonly root: string;
  /** Hex, upper case, as `X509Certificate.serialNumber` prints it. */
  readonly serial: string;
  /** When it was had; it begins a little earlier, for clocks that are behind. */
  readonly issuedAtMs: number;
  readonly notAfterMs: number;
}

export interface Pki {
  /** A certificate for `identity` (models/identity.ts), which must be the caller's own. */
  issue(request: { readonly identity: string; readonly ttlMs: number }): Promise<IssuedCertificate>;
  /** Puts the certificate on the revocation list, which is made anew at once. Doing it again changes nothing. */
  revoke(serial: string): Promise<void>;
  /** Serials, as `issue` gives them, of the certificates of this identity that have not ended. One that was seen before is not read again. */
  serialsOf(identity: string): Promise<readonly string[]>;
  /** The revocation list, DER; anybody may read it. */
  crl(): Promise<Buffer>;
  /** Makes the list anew, with a later end. */
  renewCrl(): Promise<void>;
  /** PEM of the root; anybody may read it. */
  root(): Promise<string>;
}

const SignAnswer = z.object({ data: z.object({ certificate: z.string(), ca_chain: z.array(z.string()).min(1) }) });
const ListAnswer = z.object({ data: z.object({ keys: z.array(z.string()) }) });
const CertificateAnswer = z.object({ data: z.object({ certificate: z.string().min(1) }) });

export function openPki(session: VaultSession, mounts: { readonly pki: string; readonly pkiRoot: string }): Pki {
  const owners = new Map<string, Owner>();
  const certificateOf = async (mount: string, name: string) => {
    const ask = { what: `${name} of ${mount}`, method: "GET", path: `${mount}/cert/${name}` } as const;
    return (await session.askOpenly(ask, CertificateAnswer)).data.certificate;
  };
  return {
    async issue({ identity, ttlMs }) {
      const { privateKeyPem, requestPem } = await requestCertificate();
      const body = { csr: requestPem, uri_sans: identity, ttl: `${Math.ceil(ttlMs / 1_000)}s`, format: "pem" };
      const path = `${mounts.pki}/sign/${PKI_ROLE}`;
      const { data } = await session.ask({ what: `a certificate for ${identity}`, method: "POST", path, body }, SignAnswer);
      const parsed = new X509Certificate(data.certificate);
      return {
        privateKey: privateKeyPem,
        certificate: data.certificate,
        chain: data.ca_chain.filter((pem) => !isSelfSigned(pem)).join("\n"),
        root: await certificateOf(mounts.pkiRoot, "ca"),
        serial: parsed.serialNumber,
        issuedAtMs: Date.now(),
        notAfterMs: Date.parse(parsed.validTo),
      };
    },
    async revoke(serial) {
      const body = { serial_number: (serial.toLowerCase().match(/../g) ?? []).join(":") };
      await session.ask({ what: `certificate ${serial}`, method: "POST", path: `${mounts.pki}/revoke`, body }, z.unknown());
    },
    async serialsOf(identity) {
      const ask = { what: "its certificates", method: "LIST", path: `${mounts.pki}/certs` } as const;
      const { keys } = (await session.ask(ask, ListAnswer)).data;
      const news = keys.filter((key) => !owners.has(key));
      for (let at = 0; at < news.length; at += KEY_LIMITS.certificateReadsAtOnceMax)
        await Promise.all(
          news.slice(at, at + KEY_LIMITS.certificateReadsAtOnceMax).map(async (key) => {
            owners.set(key, ownerOf(new X509Certificate(await certificateOf(mounts.pki, key))));
          }),
        );
      // Vault forgets what has ended, and so do we.
      const present = new Set(keys);
      for (const key of owners.keys()) if (!present.has(key)) owners.delete(key);
      return [...owners.values()].flatMap(({ endsAtMs, serial, uri }) =>
        uri === identity && endsAtMs > Date.now() ? [serial] : [],
      );
    },
    async crl() {
      return derOf(await certificateOf(mounts.pki, "crl"));
    },
    async renewCrl() {
      await session.ask({ what: "the revocation list", method: "GET", path: `${mounts.pki}/crl/rotate` }, z.unknown());
    },
    root: () => certificateOf(mounts.pkiRoot, "ca"),
  };
}

interface Owner {
  readonly uri: string | undefined;
  readonly serial: string;
  readonly endsAtMs: number;
}

function ownerOf(certificate: X509Certificate): Owner {
  const uri = uriOf(certificate);
  return { uri, serial: certificate.serialNumber, endsAtMs: Date.parse(certificate.validTo) };
}

function isSelfSigned(pem: string): boolean {
  const certificate = new X509Certificate(pem);
  return certificate.subject === certificate.issuer;
}

function derOf(pem: string): Buffer {
  return Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ""), "base64");
}
