/** Roles and who assumes them, asked of moto itself: it takes any signature. */
import type { Cloud } from "./cloud.ts";

export async function createRole(cloud: Cloud, RoleName: string): Promise<string> {
  const trust = { Effect: "Allow", Principal: { Service: "ec2.amazonaws.com" }, Action: "sts:AssumeRole" };
  const AssumeRolePolicyDocument = JSON.stringify({ Version: "2012-10-17", Statement: [trust] });
  const fields = { Action: "CreateRole", Version: "2010-05-08", RoleName, AssumeRolePolicyDocument };
  return told(await ask(cloud, "iam", fields), "Arn");
}

/** As EC2 does for an instance: the session has the instance's id for a name. */
export async function assumeRole(cloud: Cloud, role: string, instance: string) {
  const RoleArn = `arn:aws:iam::123456789012:role/${role}`;
  const fields = { Action: "AssumeRole", Version: "2011-06-15", RoleArn, RoleSessionName: instance };
  const answer = await ask(cloud, "sts", fields);
  const [AccessKeyId, SecretAccessKey] = [told(answer, "AccessKeyId"), told(answer, "SecretAccessKey")];
  return { AccessKeyId, SecretAccessKey, Token: told(answer, "SessionToken") };
}

async function ask({ config, motoUrl }: Cloud, service: string, fields: Record<string, string>): Promise<string> {
  const authorization = `AWS4-HMAC-SHA256 Credential=test/20261121/${config.region}/${service}/aws4_request, SignedHeaders=host, Signature=0`;
  const answer = await fetch(motoUrl, { method: "POST", headers: { authorization }, body: new URLSearchParams(fields) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`moto: ${text}`);
  return text;
}

function told(xml: string, name: string): string {
  const value = new RegExp(`<${name}>([^<]+)</${name}>`).exec(xml)?.[1];
  if (value === undefined) throw new Error(`moto said no ${name}: ${xml}`);
  return value;
}
