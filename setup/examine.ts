/** Looks at the machine the way a person who wonders why it does not work would: parts, permissions, room. */
import { constants } from "node:fs";
import { access, readFile, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { exec } from "./exec.ts";
import { find, findQemu, type Part } from "./find.ts";
import { SETUP_LIMITS } from "./limits.ts";
import { paths } from "./paths.ts";
import { DEFAULT_PORTS, isFree } from "./ports.ts";
import { installCommand, packagesOf } from "./system.ts";

export interface Check {
  readonly name: string;
  /** `missing` keeps Foreshift from working; `warning` only narrows what it can do. */
  readonly state: "ok" | "missing" | "warning";
  readonly source: string;
  readonly where: string;
  readonly version?: string;
  readonly purpose: string;
  readonly remedy?: string;
}

const BYTES_PER_GIB = 1024 ** 3;
const USER_NAMESPACES_REMEDY =
  "Run as root, or allow user namespaces: sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0";

export async function examine(): Promise<Check[]> {
  const { parts } = await find();
  const systemMissing = parts.filter(({ source, debianPackage }) => source === "missing" && debianPackage !== undefined);
  const install = await installCommand(packagesOf(systemMissing));
  const checks = await Promise.all([
    ...parts.map((part) => partCheck(part, install)),
    qemuCheck(),
    namespaceCheck(),
    tunCheck(),
    ingressCheck(),
    diskCheck(),
    cgroupCheck(),
    portsCheck(),
  ]);
  return checks;
}

async function partCheck(part: Part, install: string): Promise<Check> {
  const { name, source, where, purpose } = part;
  if (source === "missing") {
    const remedy = part.debianPackage === undefined ? "Run `npm start`: set-up downloads what is pinned." : install;
    return { name, state: "missing", source, where, purpose, remedy };
  }
  const version = part.version ?? (source === "PATH" ? await versionOf(part) : undefined);
  return { name, state: "ok", source, where, purpose, ...(version === undefined ? {} : { version }) };
}

/** A machine without it only lacks virtual machines. */
async function qemuCheck(): Promise<Check> {
  const part = await findQemu();
  const check = await partCheck(part, await installCommand(packagesOf([part])));
  return check.state === "missing" ? { ...check, state: "warning" } : check;
}

const VERSION_ARGS: Readonly<Record<string, string>> = { ip: "-V", ping: "-V", openbao: "version", pip: "--version" };

async function versionOf({ name, where }: Part): Promise<string | undefined> {
  const asked = await exec(where, [VERSION_ARGS[name] ?? "--version"], { timeoutMs: SETUP_LIMITS.probeTimeoutMs });
  return /\d+\.[\d.]*\d|\d{6,}/.exec(asked.stdout)?.[0];
}

/** As root a namespace is simply made; others need one of their own users. */
function inNamespace(command: readonly string[]): Promise<{ ok: boolean; stderr: string }> {
  const flags = process.getuid?.() === 0 ? ["-nm"] : ["-Urnm"];
  return exec("unshare", [...flags, ...command], { timeoutMs: SETUP_LIMITS.probeTimeoutMs });
}

async function namespaceCheck(): Promise<Check> {
  const { ok, stderr } = await inNamespace(["true"]);
  const kind = process.getuid?.() === 0 ? "as root" : "in a user namespace";
  return verdict("namespaces", "holds the lab's machines", ok, ok ? kind : firstLine(stderr), USER_NAMESPACES_REMEDY);
}

async function tunCheck(): Promise<Check> {
  const { ok, stderr } = await inNamespace(["ip", "tuntap", "add", "dev", "probe0", "mode", "tun"]);
  const remedy = "Load the module (modprobe tun), and in a container pass the device on: --device /dev/net/tun";
  return verdict("tun", "carries wireguard-go", ok, ok ? "/dev/net/tun" : firstLine(stderr), remedy);
}

async function ingressCheck(): Promise<Check> {
  const chain = "{ type filter hook ingress device lo priority 0; }";
  const rules = `add table netdev probe; add chain netdev probe ingress ${chain}`;
  const { ok, stderr } = await inNamespace(["nft", rules]);
  const remedy = "The kernel needs nf_tables with netdev ingress (CONFIG_NETFILTER_INGRESS, CONFIG_NF_TABLES_NETDEV).";
  return verdict("netdev ingress", "steers packets", ok, ok ? "nftables" : firstLine(stderr), remedy);
}

async function diskCheck(): Promise<Check> {
  const { home, project } = paths();
  const { bavail, bsize } = await statfs(home).catch(() => statfs(project));
  const free = bavail * bsize;
  const where = `${(free / BYTES_PER_GIB).toFixed(1)} GiB free for ${home}`;
  const remedy = `Free at least ${SETUP_LIMITS.diskFreeBytesMin / BYTES_PER_GIB} GiB, or set FORESHIFT_HOME to a larger disk.`;
  return verdict("disk", "keeps the state", free >= SETUP_LIMITS.diskFreeBytesMin, where, remedy);
}

/** Without one the lab squeezes processors by signals; nothing is lost but precision. */
async function cgroupCheck(): Promise<Check> {
  const line = await readFile("/proc/self/cgroup", "utf8").catch(() => "");
  const path = /^0::(.*)$/m.exec(line)?.[1];
  const folder = `/sys/fs/cgroup${path === "/" ? "" : (path ?? "")}`;
  const ok = path !== undefined && (await isWritable(`${folder}/cgroup.procs`));
  const base = { name: "cgroup v2", source: "kernel", purpose: "limits the lab's machines" };
  if (ok) return { ...base, state: "ok", where: folder };
  const where = path === undefined ? "no cgroup v2 here" : `${dirname(`${folder}/x`)} is not writable`;
  return {
    ...base,
    state: "warning",
    where,
    remedy: "Nothing need be done about cgroups: the lab works without, a little less exactly.",
  };
}

async function portsCheck(): Promise<Check> {
  const states = await Promise.all(
    Object.entries(DEFAULT_PORTS).map(async ([name, port]) => ({ name, port, free: await isFree(port) })),
  );
  const taken = states.filter(({ free }) => !free).map(({ name, port }) => `${port} (${name})`);
  const where = taken.length === 0 ? "the usual ones are free" : `taken, so others nearby are used: ${taken.join(", ")}`;
  return { name: "ports", source: "kernel", purpose: "serve on loopback", state: "ok", where };
}

function verdict(name: string, purpose: string, ok: boolean, where: string, remedy: string): Check {
  const base = { name, purpose, source: "kernel", where };
  return ok ? { ...base, state: "ok" } : { ...base, state: "missing", remedy };
}

function isWritable(file: string): Promise<boolean> {
  return access(file, constants.W_OK).then(
    () => true,
    () => false,
  );
}

function firstLine(text: string): string {
  return text.trim().split("\n", 1)[0] ?? "";
}
