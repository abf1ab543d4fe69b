/**
 * A certificate request (PKCS #10, RFC 2986) for a key that was made here and stays here. It names nobody: whom the certificate is for
 * is Vault's to say, by who asks.
 */
import { generateKeyPair, type KeyObject, sign } from "node:crypto";
import { promisify } from "node:util";

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const ATTRIBUTES = 0xa0;
/** OID 1.2.840.10045.4.3.2, ecdsa-with-SHA256, with its tag and length. */
const ECDSA_WITH_SHA256 = Buffer.from("06082a8648ce3d040302", "hex");

export interface RequestedKey {
  readonly privateKeyPem: string;
  readonly requestPem: string;
}

/** A new key on P-256, and the request for it. */
export async function requestCertificate(): Promise<RequestedKey> {
  const { privateKey, publicKey } = await promisify(generateKeyPair)("ec", { namedCurve: "P-256" });
  const privateKeyPem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  return { privateKeyPem, requestPem: requestFor(privateKey, publicKey) };
}

function requestFor(privateKey: KeyObject, publicKey: KeyObject): string {
  const version = der(INTEGER, Buffer.from([0]));
  const nobody = der(SEQUENCE);
  const info = der(SEQUENCE, version, nobody, publicKey.export({ type: "spki", format: "der" }), der(ATTRIBUTES));
  const signature = der(BIT_STRING, Buffer.from([0]), sign("sha256", info, privateKey));
  const request = der(SEQUENCE, info, der(SEQUENCE, ECDSA_WITH_SHA256), signature);
  const lines = request.toString("base64").match(/.{1,64}/g) ?? [];
  return ["-----BEGIN CERTIFICATE REQUEST-----", ...lines, "-----END CERTIFICATE REQUEST-----", ""].join("\n");
}

/** Tag, length, content. Nothing here is longer than 64 KiB. */
function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}
