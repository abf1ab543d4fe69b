/**
 * The part of Vault's layout that lets endpoints on EC2 log in as what they are: instances of a swarm's own IAM role. One mount for each
 * swarm, because a login's mount is all that tells certificates whose endpoint it is.
 */
import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { IDENTITY_LIMITS } from "../models/limits-identity.ts";
import { parseInput } from "../models/parse.ts";
import { SwarmName } from "../models/steering.ts";
import { AWS_ROLE, agentPolicy, awsMount, awsServerId, type VaultMounts } from "../models/vault-layout.ts";
import { callVault, type VaultAdmin } from "./vault-call.ts";

const url = z.url({ protocol: /^https?$/ });

const AwsEnrolment = z.strictObject({
  /** Of the role in the endpoints' instance profile, without a path. EC2 alone may assume it: the session's name is the instance's id then. */
  iamRoleArn: z.string().regex(/^arn:aws[\w-]*:iam::\d{12}:role\/[\w+=,.@-]+$/, "expected arn:aws:iam::ACCOUNT:role/NAME"),
  region: z.string().regex(/^[a-z]{2}(-[a-z]+)+-\d$/, "expected a region, e.g. eu-west-1"),
  /** In place of the public ones: interface endpoints of a VPC. */
  endpoints: z.strictObject({ sts: url, ec2: url, iam: url }).partial().prefault({}),
  /** JSON file with Vault's own `accessKeyId` and `secretAccessKey`; not needed where Vault's instance has a role. */
  keysFile: z.string().min(1).optional(),
});
const VaultKeys = z.strictObject({ accessKeyId: z.string().min(1), secretAccessKey: z.string().min(1) });

/** By swarm. */
const AwsEnrolments = z.record(SwarmName, AwsEnrolment);
export type AwsEnrolments = z.infer<typeof AwsEnrolments>;

const NAME = "FORESHIFT_VAULT_AWS" as const;
/** OpenBao has AWS logins as a plugin beside it; HashiCorp Vault has them built in. */
const PLUGIN = "openbao-plugin-auth-aws";

/** `FORESHIFT_VAULT_AWS` holds them as JSON. */
export function statedEnrolments(env: NodeJS.ProcessEnv): AwsEnrolments {
  const { [NAME]: value = "" } = env;
  if (value === "") return {};
  let json: unknown;
  try {
    json = JSON.parse(value);
  } catch {
    throw new ForeshiftError("INVALID_FIELD", { field: NAME, value: "it", detail: "it is not JSON" });
  }
  return parseInput(z.object({ [NAME]: AwsEnrolments }), { [NAME]: json }, NAME)[NAME];
}

/** Makes the plugin in this folder known, so that AWS logins can be mounted. */
export async function registerAwsPlugin(admin: VaultAdmin, folder: string): Promise<void> {
  const sha256 = createHash("sha256")
    .update(await readFile(join(folder, PLUGIN)))
    .digest("hex");
  await callVault(admin, "PUT", "sys/plugins/catalog/auth/aws", { body: { sha256, command: PLUGIN } });
}

/** MISSING_TOOL where Vault knows no AWS logins. */
export async function assertAwsLogins(admin: VaultAdmin): Promise<void> {
  const known = await callVault(admin, "GET", "sys/plugins/catalog/auth/aws").catch(() => undefined);
  if (known !== undefined) return;
  const detail = `it has no AWS logins; OpenBao gets them by its plugin ${PLUGIN} (FORESHIFT_OPENBAO_PLUGINS names its folder)`;
  throw new ForeshiftError("MISSING_TOOL", { value: `Vault at ${admin.address}`, detail });
}

export async function writeAwsLogins(admin: VaultAdmin, mounts: VaultMounts, enrolments: AwsEnrolments): Promise<void> {
  for (const [swarm, { endpoints, iamRoleArn, keysFile, region }] of Object.entries(enrolments)) {
    const mount = `auth/${awsMount(mounts, swarm)}`;
    const client = {
      iam_server_id_header_value: awsServerId(swarm),
      sts_endpoint: endpoints.sts ?? `https://sts.${region}.amazonaws.com${region.startsWith("cn-") ? ".cn" : ""}`,
      sts_region: region,
      ...(keysFile === undefined ? {} : await vaultKeys(keysFile)),
      ...(endpoints.ec2 === undefined ? {} : { endpoint: endpoints.ec2 }),
      ...(endpoints.iam === undefined ? {} : { iam_endpoint: endpoints.iam }),
    };
    await callVault(admin, "POST", `${mount}/config/client`, { body: client });
    // Each instance is somebody of its own: by default all instances of a role are one, with the id of whoever logged in last.
    // Without `auth_type` a token is not renewed.
    const identity = { iam_alias: "full_arn", iam_metadata: ["auth_type", "inferred_entity_id"] };
    await callVault(admin, "POST", `${mount}/config/identity`, { body: identity });
    const role = {
      auth_type: "iam",
      bound_iam_principal_arn: [iamRoleArn],
      resolve_aws_unique_ids: true,
      // The instance must run, at its login and whenever its token is renewed.
      inferred_entity_type: "ec2_instance",
      inferred_aws_region: region,
      token_policies: [agentPolicy(swarm), "foreshift-self"],
      token_no_default_policy: true,
      token_period: `${IDENTITY_LIMITS.tokenPeriodMs / 1_000}s`,
    };
    await callVault(admin, "POST", `${mount}/role/${AWS_ROLE}`, { body: role });
  }
}

async function vaultKeys(file: string): Promise<Readonly<Record<string, string>>> {
  try {
    const { mode } = await stat(file);
    if ((mode & 0o077) !== 0) throw new Error("others may read it; make it mode 0600");
    const { accessKeyId, secretAccessKey } = VaultKeys.parse(JSON.parse(await readFile(file, "utf8")));
    return { access_key: accessKeyId, secret_key: secretAccessKey };
  } catch (thrown) {
    // The parser's message would quote the file.
    const isShape = thrown instanceof z.ZodError || thrown instanceof SyntaxError;
    const detail = isShape ? "expected JSON with accessKeyId and secretAccessKey" : messageOf(thrown);
    throw new ForeshiftError("INVALID_FIELD", { field: `${NAME}: keysFile`, value: file, detail });
  }
}
