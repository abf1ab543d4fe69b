/**
 * From what a process has (an AppRole, a Kubernetes service account, an AWS role) to a token of its own.
 */
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { awsCredentials } from "./aws-credentials.ts";
import { signedCallerIdentity } from "./aws-identity.ts";
import type { VaultAuth } from "./config.ts";
import { type OpenedCredentials, readCredentials, withCredentials, writeCredentials } from "./credentials.ts";
import type { Transport } from "./transport.ts";

const LoginAnswer = z.object({ auth: z.object({ client_token: z.string().min(1), lease_duration: z.number() }) });
const SecretIdAnswer = z.object({ data: z.object({ secret_id: z.string().min(1) }) });
const WrapAnswer = z.object({ data: z.object({ creation_path: z.string() }) });

export interface Login {
  readonly token: string;
  /** Gets the process a fresh way to log in again, where it has one that wears out. */
  readonly roll: () => Promise<void>;
}

type LoginAuth = Exclude<VaultAuth, { method: "token-file" }>;

/** UNAUTHORISED when the credentials are not good (any more); UNREACHABLE and NOT_READY may pass. */
export async function logIn(transport: Transport, auth: LoginAuth): Promise<Login> {
  const nothing = async () => undefined;
  switch (auth.method) {
    case "approle":
      return await approleLogin(transport, auth.credentialsFile);
    case "kubernetes": {
      const jwt = (await readSecretFile(auth.jwtFile)).trim();
      return { token: await tokenFrom(transport, `auth/${auth.mount}/login`, { role: auth.role, jwt }), roll: nothing };
    }
    case "aws": {
      const { metadataUrl, region, serverId } = auth;
      const credentials = await awsCredentials(metadataUrl);
      const identity = signedCallerIdentity({ credentials, region, serverId, now: new Date() });
      return { token: await tokenFrom(transport, `auth/${auth.mount}/login`, { role: auth.role, ...identity }), roll: nothing };
    }
  }
}

/** What Vault would not take as credentials is refused with 400; that is no defect of the request. */
async function tokenFrom(transport: Transport, path: string, body: Readonly<Record<string, string>>): Promise<string> {
  try {
    const { auth } = await transport.ask(undefined, { what: "a login", method: "POST", path, body }, LoginAnswer);
    return auth.client_token;
  } catch (thrown) {
    if (!(thrown instanceof ForeshiftError) || thrown.code !== "INVALID_FIELD") throw thrown;
    throw new ForeshiftError("UNAUTHORISED", { field: "vault", detail: `the login at ${path} was refused` }, { cause: thrown });
  }
}

async function approleLogin(transport: Transport, file: string): Promise<Login> {
  // Several commands of one person share a file; each has the secret-id that the one before left.
  return await withCredentials(file, async () => {
    const { mount, roleId: role_id, secretId: secret_id } = await openedCredentials(transport, file);
    const token = await tokenFrom(transport, `auth/${mount}/login`, { role_id, secret_id });
    // The token is good all the same, and the secret-id has uses left; it is rolled again within a day.
    await rollSecretId(transport, token, file).catch(() => undefined);
    return { token, roll: () => withCredentials(file, () => rollSecretId(transport, token, file)) };
  });
}

/** First the new one, then the file, then the end of the old one: killed in between, one that is good is on the disk. */
async function rollSecretId(transport: Transport, token: string, file: string): Promise<void> {
  const { mount, role, roleId, secretId: old } = await openedCredentials(transport, file);
  const path = `auth/${mount}/role/${role}/secret-id`;
  const { data } = await transport.ask(token, { what: "its next secret-id", method: "POST", path, body: {} }, SecretIdAnswer);
  await writeCredentials(file, { mount, role, roleId, secretId: data.secret_id });
  const destroy = { what: "its last secret-id", method: "POST", path: `${path}/destroy`, body: { secret_id: old } } as const;
  await transport.ask(token, destroy, z.unknown());
}

/** A wrapped secret-id is opened once in its life; a second opening fails, which is how a theft on the way shows. */
async function openedCredentials(transport: Transport, file: string): Promise<OpenedCredentials> {
  const credentials = await readCredentials(file);
  if (!("wrappingToken" in credentials)) return credentials;
  const { mount, role, roleId, wrappingToken: token } = credentials;
  try {
    const lookup = { what: "a wrapped secret-id", method: "POST", path: "sys/wrapping/lookup", body: { token } } as const;
    const { data } = await transport.ask(undefined, lookup, WrapAnswer);
    if (data.creation_path !== `auth/${mount}/role/${role}/secret-id`)
      throw new ForeshiftError("INVALID_FIELD", {
        field: file,
        value: "its wrapped secret-id",
        detail: "it was made elsewhere",
      });
    const unwrap = { what: "a wrapped secret-id", method: "POST", path: "sys/wrapping/unwrap" } as const;
    const opened = { mount, role, roleId, secretId: (await transport.ask(token, unwrap, SecretIdAnswer)).data.secret_id };
    await writeCredentials(file, opened);
    return opened;
  } catch (thrown) {
    if (thrown instanceof ForeshiftError && thrown.retryable) throw thrown;
    const detail = `the wrapped secret-id of ${file} was opened by somebody else, has expired or is not genuine; deliver a new one, and find out which`;
    throw new ForeshiftError("UNAUTHORISED", { field: "vault", detail }, { cause: thrown });
  }
}

export async function readSecretFile(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (thrown) {
    throw new ForeshiftError("UNAUTHORISED", { field: "vault", detail: `its token cannot be read: ${messageOf(thrown)}` });
  }
}
