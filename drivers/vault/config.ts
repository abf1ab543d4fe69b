/**
 * How a process reaches Vault or OpenBao, and as whom: paths and references, no secret.
 */
import { z } from "zod";
import { LIMITS } from "../../models/limits.ts";
import { VaultMounts } from "../../models/vault-layout.ts";
import { MetadataUrl } from "../aws/instance-metadata.ts";

const path = z.string().min(1);
const mount = z.string().regex(/^[\w.-]+(\/[\w.-]+)*$/, "expected a mount path without slashes at its ends");

export const VaultAuth = z.discriminatedUnion("method", [
  /** Read again for each call, so that a token that somebody else renews is taken up. */
  z.strictObject({ method: z.literal("token-file"), tokenFile: path }),
  /** File of mode 0600 that its process alone writes once it has been delivered (drivers/vault/credentials.ts). */
  z.strictObject({ method: z.literal("approle"), credentialsFile: path }),
  z.strictObject({
    method: z.literal("kubernetes"),
    role: path,
    mount: mount.default("kubernetes"),
    jwtFile: path.default("/var/run/secrets/kubernetes.io/serviceaccount/token"),
  }),
  /** IAM: a signed call of GetCallerIdentity, with the credentials of the environment or of the instance's role. */
  z.strictObject({
    method: z.literal("aws"),
    role: path,
    mount: mount.default("aws"),
    region: z.string().default("us-east-1"),
    /** Value of the header that the server is told to demand, against use of the signature elsewhere. */
    serverId: z.string().optional(),
    metadataUrl: MetadataUrl,
  }),
]);
export type VaultAuth = z.infer<typeof VaultAuth>;

export const VaultConfig = z
  .strictObject({
    /** Exactly one of the two says where Vault is: a relay's unix socket, or `http(s)://host:port`. */
    socketPath: path.optional(),
    address: z.url({ protocol: /^https?$/ }).optional(),
    /** Enterprise or OpenBao namespace. */
    namespace: z.string().min(1).optional(),
    /** Certificate authorities of Vault's own certificate; without it those of the system. */
    caFile: path.optional(),
    mounts: VaultMounts.prefault({}),
    /** Of each call; a machine that gets little time wants more. */
    callTimeoutMs: z.number().int().min(100).max(LIMITS.vault.callTimeoutMsMax).default(LIMITS.vault.callTimeoutMs),
    auth: VaultAuth,
  })
  .refine(({ socketPath, address }) => (socketPath === undefined) !== (address === undefined), {
    path: ["address"],
    message: "give exactly one of address and socketPath",
  });
export type VaultConfig = z.infer<typeof VaultConfig>;
/** What a caller writes: mounts may be left out. */
export type VaultOptions = z.input<typeof VaultConfig>;
