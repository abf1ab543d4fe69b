/**
 * AWS Signature Version 4 of one call, `sts:GetCallerIdentity`, which Vault makes in our name to learn who we are. The secret access
 * key stays here. Source of the scheme: AWS General Reference, "Signing AWS API requests".
 */
import { createHash, createHmac } from "node:crypto";

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

export interface CallerIdentityOptions {
  readonly credentials: AwsCredentials;
  readonly region: string;
  readonly serverId?: string | undefined;
  readonly now: Date;
}

const BODY = "Action=GetCallerIdentity&Version=2011-06-15";

/** The fields of Vault's `auth/aws/login` that carry the signed request, base64 as Vault wants them. */
export function signedCallerIdentity(options: CallerIdentityOptions): Readonly<Record<string, string>> {
  const { credentials, region, serverId, now } = options;
  const host = `sts.${region}.amazonaws.com${region.startsWith("cn-") ? ".cn" : ""}`;
  const stamp = now.toISOString().replace(/[-:]|\.\d+/g, "");
  const headers: Record<string, string> = {
    "content-type": "application/x-www-form-urlencoded; charset=utf-8",
    host,
    "x-amz-date": stamp,
    ...(credentials.sessionToken === undefined ? {} : { "x-amz-security-token": credentials.sessionToken }),
    ...(serverId === undefined ? {} : { "x-vault-aws-iam-server-id": serverId }),
  };
  const names = Object.keys(headers).sort();
  const signedHeaders = names.join(";");
  const canonicalHeaders = names.map((name) => `${name}:${headers[name]}\n`).join("");
  const canonical = ["POST", "/", "", canonicalHeaders, signedHeaders, sha256(BODY)].join("\n");
  const scope = `${stamp.slice(0, 8)}/${region}/sts/aws4_request`;
  const signature = hmac(signingKey(options, stamp), `AWS4-HMAC-SHA256\n${stamp}\n${scope}\n${sha256(canonical)}`).toString(
    "hex",
  );
  const authorization = `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope}, SignedHeaders=${signedHeaders}, Signature=${signature}`;
  return {
    iam_http_request_method: "POST",
    iam_request_url: base64(`https://${host}/`),
    iam_request_body: base64(BODY),
    iam_request_headers: base64(JSON.stringify({ ...headers, authorization })),
  };
}

function signingKey({ credentials, region }: CallerIdentityOptions, stamp: string): Buffer {
  const parts = [stamp.slice(0, 8), region, "sts", "aws4_request"];
  return parts.reduce<Buffer>((key, part) => hmac(key, part), Buffer.from(`AWS4${credentials.secretAccessKey}`));
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}
