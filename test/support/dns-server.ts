/** Knot with one zone that a key may change, for one test file. */

import { Resolver } from "node:dns/promises";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { bringKnot } from "../../setup/knot.ts";
import { makePaths } from "../../setup/paths.ts";
import { onFreePort } from "../../setup/ports.ts";
import { startChild } from "../../setup/service.ts";
import { testHome } from "./services.ts";

export interface DnsServer {
  readonly port: number;
  /** Base64, mode 0600. */
  readonly secretFile: string;
  /** Addresses of a name, sorted; none where the server says that there are none. */
  addresses(name: string, type?: "A" | "AAAA"): Promise<readonly string[]>;
  stop(): Promise<void>;
}

export const ZONE = "vpn.example";
export const KEY_NAME = "foreshift";
const SECRET = Buffer.alloc(32, 7).toString("base64");

/** A sentence where this machine cannot have it. */
export async function startDnsServer(): Promise<DnsServer | string> {
  const program = await bringKnot();
  if (typeof program === "string") return program;
  const where = await testHome();
  await makePaths({ ...where, log: join(where.home, "log") });
  const secretFile = join(where.home, "secret");
  await writeFile(secretFile, `${SECRET}\n`, { mode: 0o600 });
  await writeFile(
    join(where.home, `${ZONE}.zone`),
    `@ 3600 SOA ns.${ZONE}. hostmaster.${ZONE}. 1 3600 900 86400 60\n@ NS ns\nns A 198.18.0.1\n`,
  );
  const resolver = new Resolver({ timeout: 2_000, tries: 2 });
  const { child, port } = await onFreePort(async (free) => {
    const config = join(where.home, "knot.conf");
    await writeFile(config, configuration(where.home, free));
    resolver.setServers([`127.0.0.1:${free}`]);
    const started = await startChild(where, {
      name: "knot",
      command: program.command,
      args: ["-c", config],
      stopSignal: "SIGTERM",
      orphanSignal: "KILL",
      ports: [free],
      isReady: async () => (await resolver.resolveSoa(ZONE)).serial === 1,
    });
    return { child: started, port: free };
  });
  return {
    port,
    secretFile,
    addresses: async (name, type = "A") => {
      try {
        const found = type === "A" ? await resolver.resolve4(name) : await resolver.resolve6(name);
        return found.toSorted((a, b) => a.localeCompare(b));
      } catch (thrown) {
        const { code } = thrown as { code?: unknown };
        if (code === "ENOTFOUND" || code === "ENODATA") return [];
        throw thrown;
      }
    },
    stop: async () => {
      resolver.cancel();
      await child.stop();
      await where.remove();
    },
  };
}

function configuration(folder: string, port: number): string {
  return `server:
    rundir: "${folder}"
    listen: 127.0.0.1@${port}
    background-workers: 1
    udp-workers: 1
    tcp-workers: 1
database:
    storage: "${folder}"
log:
  - target: stderr
    any: warning
key:
  - id: ${KEY_NAME}
    algorithm: hmac-sha256
    secret: ${SECRET}
acl:
  - id: update
    key: ${KEY_NAME}
    action: update
    update-owner: name
    update-owner-match: equal
    update-owner-name: [in]
zone:
  - domain: ${ZONE}
    storage: "${folder}"
    file: ${ZONE}.zone
    acl: update
`;
}
