/**
 * Lays Vault out for Foreshift: engines, the two authorities, policies from their files, an AppRole for each process. Done again it
 * changes nothing but policies and roles that differ.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { IDENTITY_LIMITS } from "../models/limits-identity.ts";
import {
  agentPolicy,
  awsMount,
  ipsecKey,
  PKI_ROLE,
  TRANSIT_KEYS,
  VAULT_PROCESSES,
  type VaultMounts,
} from "../models/vault-layout.ts";
import { paths } from "./paths.ts";
import { type AwsEnrolments, assertAwsLogins, writeAwsLogins } from "./vault-aws.ts";
import { callVault, type VaultAdmin } from "./vault-call.ts";

export interface VaultLayout {
  readonly mounts: VaultMounts;
  /** Swarms whose agents get a policy. */
  readonly swarms: readonly string[];
  /** Swarms whose endpoints log in as instances of EC2; their agents get a policy too. */
  readonly aws: AwsEnrolments;
}

const { tokenPeriodMs, secretIdTtlMs, secretIdUses, wrapTtlMs } = IDENTITY_LIMITS;
const CERTIFICATE_TTL_MAX = "72h";
const CRL_LIFE = "72h";

const Mounts = z.object({ data: z.record(z.string(), z.object({ accessor: z.string() })) });
const Csr = z.object({ data: z.object({ csr: z.string() }) });
const Signed = z.object({ data: z.object({ certificate: z.string(), ca_chain: z.array(z.string()).optional() }) });
const Wrapped = z.object({ wrap_info: z.object({ token: z.string().min(1) }) });
const List = z.object({ data: z.object({ keys: z.array(z.string()) }) });

/** What the layout is made from; the same text needs no second layout. */
export async function layoutStamp(layout: VaultLayout): Promise<string> {
  const files = await policyFiles();
  const hash = createHash("sha256").update(JSON.stringify([layout, IDENTITY_LIMITS]));
  return hash.update(JSON.stringify([...files])).digest("hex");
}

/** With the token of an administrator. */
export async function layOutVault(admin: VaultAdmin, layout: VaultLayout): Promise<void> {
  const { aws, mounts } = layout;
  const awsSwarms = Object.keys(aws);
  if (awsSwarms.length > 0) await assertAwsLogins(admin);
  await mountMissing(admin, "sys/mounts", {
    [mounts.kv]: { type: "kv", options: { version: "2" } },
    [mounts.transit]: { type: "transit" },
    [mounts.pkiRoot]: { type: "pki", config: { max_lease_ttl: "87600h" } },
    [mounts.pki]: { type: "pki", config: { max_lease_ttl: "43800h" } },
  });
  const accessors = await mountMissing(admin, "sys/auth", {
    [mounts.approle]: { type: "approle" },
    [mounts.agents]: { type: "approle" },
    ...Object.fromEntries(awsSwarms.map((swarm) => [awsMount(mounts, swarm), { type: "aws" }])),
  });
  // Nobody guesses a secret-id; but anybody could lock a process out by guessing.
  for (const mount of [mounts.approle, mounts.agents]) {
    await callVault(admin, "POST", `sys/auth/${mount}/tune`, { body: { user_lockout_config: { lockout_disable: true } } });
  }
  const swarmKeys = [...new Set([...layout.swarms, ...awsSwarms])].map(ipsecKey);
  for (const key of [...Object.values(TRANSIT_KEYS), ...swarmKeys]) {
    await callVault(admin, "POST", `${mounts.transit}/keys/${key}`, { body: { type: "aes256-gcm96" } });
  }
  const approleAccessor = accessors.get(mounts.approle) ?? "";
  const agentsAccessor = accessors.get(mounts.agents) ?? "";
  await writePolicies(admin, layout, { approleAccessor, agentsAccessor });
  for (const process of VAULT_PROCESSES) await writeRole(admin, mounts, process);
  await writeAwsLogins(admin, mounts, aws);
  await makeAuthorities(admin, mounts);
  const instances = awsSwarms.map((swarm) => ({ swarm, accessor: accessors.get(awsMount(mounts, swarm)) ?? "" }));
  await callVault(admin, "POST", `${mounts.pki}/roles/${PKI_ROLE}`, {
    body: certificateRole(approleAccessor, agentsAccessor, instances),
  });
}

export interface WrappedCredentials {
  readonly mount: string;
  readonly role: string;
  readonly roleId: string;
  readonly wrappingToken: string;
}

/** A process's AppRole, to be written into its credentials file; the secret-id is opened by the first who does. */
export async function wrappedCredentials(admin: VaultAdmin, mount: string, role: string): Promise<WrappedCredentials> {
  const answer = await callVault(admin, "POST", `auth/${mount}/role/${role}/secret-id`, {
    body: {},
    wrapTtl: `${wrapTtlMs / 1_000}s`,
  });
  return { mount, role, roleId: role, wrappingToken: Wrapped.parse(answer).wrap_info.token };
}

async function mountMissing(
  admin: VaultAdmin,
  table: "sys/mounts" | "sys/auth",
  wanted: Readonly<Record<string, object>>,
): Promise<ReadonlyMap<string, string>> {
  const read = async () => Mounts.parse(await callVault(admin, "GET", table)).data;
  const there = await read();
  const missing = Object.entries(wanted).filter(([path]) => !(`${path}/` in there));
  for (const [path, body] of missing) await callVault(admin, "POST", `${table}/${path}`, { body });
  const now = missing.length === 0 ? there : await read();
  return new Map(Object.keys(wanted).map((path) => [path, now[`${path}/`]?.accessor ?? ""]));
}

async function writePolicies(
  admin: VaultAdmin,
  layout: VaultLayout,
  accessors: Readonly<Record<string, string>>,
): Promise<void> {
  const { aws, mounts } = layout;
  const swarms = [...new Set([...layout.swarms, ...Object.keys(aws)])];
  const agentPolicies = swarms.map((swarm) => `${agentPolicy(swarm)},foreshift-self`).join('", "');
  const values = { ...mounts, ...accessors, agentPolicies };
  for (const [name, text] of await policyFiles()) {
    if (name !== "agent") await writePolicy(admin, `foreshift-${name}`, filled(text, values));
    else for (const swarm of swarms) await writePolicy(admin, agentPolicy(swarm), filled(text, { ...values, swarm }));
  }
}

async function writePolicy(admin: VaultAdmin, name: string, policy: string): Promise<void> {
  await callVault(admin, "PUT", `sys/policies/acl/${name}`, { body: { policy } });
}

/** By name, without extension. */
async function policyFiles(): Promise<ReadonlyMap<string, string>> {
  const folder = join(paths().project, "vault", "policies");
  const names = (await readdir(folder)).filter((name) => name.endsWith(".hcl")).sort();
  return new Map(
    await Promise.all(
      names.map(async (name) => [name.slice(0, -".hcl".length), await readFile(join(folder, name), "utf8")] as const),
    ),
  );
}

/** `${name}` is ours, `{{…}}` is Vault's own. */
function filled(text: string, values: Readonly<Record<string, string>>): string {
  return text.replace(/\$\{(\w+)\}/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`a policy names \${${name}}, which is not known`);
    return value;
  });
}

async function writeRole(admin: VaultAdmin, { approle }: VaultMounts, process: string): Promise<void> {
  const body = {
    role_id: process,
    token_policies: [`foreshift-${process}`, "foreshift-self"],
    token_no_default_policy: true,
    token_period: `${tokenPeriodMs / 1_000}s`,
    secret_id_num_uses: secretIdUses,
    secret_id_ttl: `${secretIdTtlMs / 1_000}s`,
  };
  await callVault(admin, "POST", `auth/${approle}/role/${process}`, { body });
}

/** A root that signs one intermediate and rests, and the intermediate that signs processes. Made once. */
async function makeAuthorities(admin: VaultAdmin, mounts: VaultMounts): Promise<void> {
  const issuers = await callVault(admin, "LIST", `${mounts.pki}/issuers`).catch(() => undefined);
  const known = List.safeParse(issuers);
  if (known.success && known.data.data.keys.length > 0) return;
  const key = { key_type: "ec", key_bits: 256 };
  const root = { common_name: "Foreshift root", ttl: "87600h", ...key };
  await callVault(admin, "POST", `${mounts.pkiRoot}/root/generate/internal`, { body: root });
  const asked = Csr.parse(
    await callVault(admin, "POST", `${mounts.pki}/intermediate/generate/internal`, {
      body: { common_name: "Foreshift processes", ...key },
    }),
  );
  const signed = Signed.parse(
    await callVault(admin, "POST", `${mounts.pkiRoot}/root/sign-intermediate`, {
      body: { csr: asked.data.csr, common_name: "Foreshift processes", ttl: "43800h", max_path_length: 0 },
    }),
  );
  const certificate = [signed.data.certificate, ...(signed.data.ca_chain ?? [])].join("\n");
  await callVault(admin, "POST", `${mounts.pki}/intermediate/set-signed`, { body: { certificate } });
  // Without auto-rebuild, a revocation makes the list anew at once.
  await callVault(admin, "POST", `${mounts.pki}/config/crl`, { body: { expiry: CRL_LIFE, auto_rebuild: false } });
  await callVault(admin, "POST", `${mounts.pki}/config/auto-tidy`, {
    body: { enabled: true, tidy_cert_store: true, tidy_revoked_certs: true, interval_duration: "12h", safety_buffer: "72h" },
  });
}

/** A certificate names the AppRole or the instance that asked for it, and nothing else that the asker could choose. */
function certificateRole(
  approleAccessor: string,
  agentsAccessor: string,
  instances: readonly { readonly swarm: string; readonly accessor: string }[],
): object {
  const told = (accessor: string, what: string) => `{{identity.entity.aliases.${accessor}.metadata.${what}}}`;
  return {
    allowed_uri_sans: [
      `spiffe://foreshift/${told(approleAccessor, "role_name")}`,
      `spiffe://foreshift/agent/${told(agentsAccessor, "role_name")}`,
      ...instances.map(({ accessor, swarm }) => `spiffe://foreshift/agent/${swarm}.${told(accessor, "inferred_entity_id")}`),
    ],
    allowed_uri_sans_template: true,
    allow_any_name: false,
    allow_localhost: false,
    allow_ip_sans: false,
    require_cn: false,
    use_csr_common_name: false,
    use_csr_sans: false,
    key_type: "ec",
    key_bits: 256,
    server_flag: true,
    client_flag: true,
    ttl: "24h",
    max_ttl: CERTIFICATE_TTL_MAX,
    not_before_duration: "30s",
  };
}
