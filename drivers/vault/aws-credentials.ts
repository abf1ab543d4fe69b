/**
 * With which keys a process signs for AWS: those of its environment, else those that its instance's role gives it. The latter end after
 * some hours and are replaced by EC2, so they are asked for anew with each login.
 */
import { z } from "zod";
import { ForeshiftError } from "../../models/errors.ts";
import { InstanceMetadata } from "../aws/instance-metadata.ts";
import type { AwsCredentials } from "./aws-identity.ts";

const OF_ROLES = "meta-data/iam/security-credentials/";

const text = z.string().min(1);
const RoleCredentials = z.object({ Code: z.literal("Success"), AccessKeyId: text, SecretAccessKey: text, Token: text });

/** UNAUTHORISED where there are none; UNREACHABLE and NOT_READY may pass: an instance that has just begun has its keys a little later. */
export async function awsCredentials(metadataUrl: string, env: NodeJS.ProcessEnv = process.env): Promise<AwsCredentials> {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: sessionToken } = env;
  if (accessKeyId !== undefined && secretAccessKey !== undefined) return { accessKeyId, secretAccessKey, sessionToken };
  const metadata = new InstanceMetadata(metadataUrl);
  const role = (await metadata.find(OF_ROLES))?.split("\n", 1)[0]?.trim() ?? "";
  if (role === "") {
    const detail =
      "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and the instance has no role; give it an instance profile";
    throw new ForeshiftError("UNAUTHORISED", { field: "vault", detail });
  }
  const answer = await metadata.read(`${OF_ROLES}${role}`, "EC2 has no keys for the instance's role yet");
  const parsed = RoleCredentials.safeParse(jsonOf(answer));
  // What it says is not shown: it may hold a key.
  if (!parsed.success) throw new ForeshiftError("NOT_READY", { value: `role ${role}`, detail: "EC2 has no keys for it" });
  const { AccessKeyId, SecretAccessKey, Token } = parsed.data;
  return { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: Token };
}

function jsonOf(answer: string): unknown {
  try {
    return JSON.parse(answer);
  } catch {
    return undefined;
  }
}
