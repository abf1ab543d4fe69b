/**
 * What the authorities have signed: whose a certificate is, and whether a revocation list is theirs.
 */
import { verify, X509Certificate } from "node:crypto";
import { type Crl, parseCrl } from "../../models/crl.ts";
import { DER_TAG, DerReader, toHex } from "../../models/der.ts";
import { ForeshiftError } from "../../models/errors.ts";

/** Digests by the signature's algorithm identifier (RFC 5758, RFC 4055), DER in hex: ECDSA and RSA with SHA-256 and SHA-384. */
const DIGESTS: Readonly<Record<string, string>> = {
  "300A06082A8648CE3D040302": "sha256",
  "300A06082A8648CE3D040303": "sha384",
  "300D06092A864886F70D01010B0500": "sha256",
  "300D06092A864886F70D01010C0500": "sha384",
};

/** The list, if one of the authorities has signed it as it stands; CRL_REFUSED otherwise. */
export function verifiedCrl(der: Uint8Array, authorities: readonly X509Certificate[]): Crl {
  const crl = parseCrl(der);
  const authority = authorities.find(({ raw }) => subjectOf(raw) === crl.issuer);
  if (authority === undefined) throw new ForeshiftError("CRL_REFUSED", { detail: "it is of another authority" });
  const digest = DIGESTS[crl.signed.algorithm];
  if (digest === undefined) throw new ForeshiftError("CRL_REFUSED", { detail: "its signature is of a kind that is not known" });
  if (verify(digest, crl.signed.content, authority.publicKey, crl.signed.signature)) return crl;
  throw new ForeshiftError("CRL_REFUSED", { detail: "its signature is not that of the authority" });
}

/** The one URI that a certificate names; undefined when it names none, several, or anything else. */
export function uriOf(certificate: X509Certificate): string | undefined {
  const names = certificate.subjectAltName ?? "";
  // Node quotes a name that holds a comma, so that one name is never read as two.
  return /^URI:([^",\s]+)$/.exec(names)?.[1];
}

/** The certificates of a PEM text, in order. */
export function certificatesOf(pem: string): readonly X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  return blocks.map((block) => new X509Certificate(block));
}

/** The subject's name, DER in hex, as it stands in the certificate (RFC 5280, section 4.1). */
function subjectOf(certificate: Uint8Array): string {
  const tbs = new DerReader(certificate).enter(DER_TAG.sequence).enter(DER_TAG.sequence);
  if (tbs.peek() === DER_TAG.explicit0) tbs.any();
  tbs.expect(DER_TAG.integer);
  // Algorithm, issuer, validity.
  for (let skipped = 0; skipped < 3; skipped += 1) tbs.expect(DER_TAG.sequence);
  return toHex(tbs.expect(DER_TAG.sequence).whole);
}
