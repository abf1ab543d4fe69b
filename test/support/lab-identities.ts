/** The certificates of a lab's processes and machines as they lie on its disk, and what was logged about connections. */
import { glob, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { certificatesOf, verifiedCrl } from "../../drivers/identity/authority.ts";

export interface HeldIdentity {
  readonly serial: string;
  /** Serials on the revocation list that it holds; none where it holds no list yet. */
  readonly revoked: ReadonlySet<string>;
}

/** By process, or by machine. */
export async function identitiesOf(home: string): Promise<ReadonlyMap<string, HeldIdentity>> {
  const found = new Map<string, HeldIdentity>();
  for await (const file of glob(["identity/*/identity.json", "fleet/machines/*/identity/identity.json"], { cwd: home })) {
    const folder = join(home, dirname(file));
    const [first, second, third] = file.split("/");
    const name = first === "identity" ? second : third;
    const { chain, root, serial } = JSON.parse(await readFile(join(home, file), "utf8")) as Record<string, string>;
    const list = await readFile(join(folder, "crl.der")).catch(() => undefined);
    const crl = list === undefined ? undefined : verifiedCrl(list, certificatesOf(`${chain}\n${root}`));
    found.set(name ?? "", { serial: serial ?? "", revoked: crl?.revoked ?? new Set() });
  }
  return found;
}

/** What the lab's processes log from now on. */
export async function loggedFromNow(home: string): Promise<() => Promise<string>> {
  const sizes = new Map<string, number>();
  for await (const name of glob("log/*.log", { cwd: home })) sizes.set(name, (await stat(join(home, name))).size);
  return async () => {
    const parts: string[] = [];
    for await (const name of glob("log/*.log", { cwd: home }))
      parts.push((await readFile(join(home, name))).subarray(sizes.get(name) ?? 0).toString());
    return parts.join("\n");
  };
}
