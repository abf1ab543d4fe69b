/**
 * Processes and endpoints' agents as the collector meets them: each with a login, a certificate and a client of its own, at a real OpenBao.
 */
import { cp } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { pino } from "pino";
import { UnixHttpClient } from "../../drivers/http-unix.ts";
import { dialProcess } from "../../drivers/identity/dial.ts";
import { ProcessIdentity } from "../../drivers/identity/process-identity.ts";
import { writeCredentials } from "../../drivers/vault/credentials.ts";
import { openVault, type Vault } from "../../drivers/vault/vault.ts";
import { agentIdentity, processIdentity } from "../../models/identity.ts";
import type { VaultProcess } from "../../models/vault-layout.ts";
import type { OpenBaoService } from "../../setup/services.ts";
import { identify } from "../../workers/identify.ts";
import type { TestHome } from "./services.ts";

export interface Member {
  readonly identity: ProcessIdentity;
  readonly vault: Vault;
  /** To the collector. */
  readonly http: UnixHttpClient;
}

export class Members {
  readonly #where: TestHome;
  readonly #bao: OpenBaoService;
  readonly #collector: string;
  readonly #all: Member[] = [];

  constructor(where: TestHome, bao: OpenBaoService, collector: string) {
    this.#where = where;
    this.#bao = bao;
    this.#collector = collector;
  }

  async process(name: VaultProcess): Promise<Member> {
    const file = join(this.#where.home, `${name}.approle`);
    await this.#bao.deliver(name, file);
    return await this.#member(processIdentity(name), name, file);
  }

  async agent(endpoint: string, swarm: string): Promise<Member> {
    const admin = openVault({ address: this.#bao.address, auth: { method: "token-file", tokenFile: this.#bao.tokenFile } });
    const file = join(this.#where.home, `${swarm}-${endpoint}.approle`);
    await writeCredentials(file, await admin.appRoles.enrolAgent({ swarm, endpoint }));
    await admin.close();
    return await this.#member(agentIdentity(swarm, endpoint), `${swarm}-${endpoint}`, file);
  }

  /** Somebody with a copy of an agent's files. */
  async copyOf({ identity, vault }: Member, endpoint: string): Promise<Member> {
    const dir = join(this.#where.home, `copy-of-${endpoint}`);
    await cp(join(this.#where.home, `lab-${endpoint}-identity`), dir, { recursive: true });
    const copied = new ProcessIdentity({
      uri: identity.uri,
      pki: undefined,
      dir,
      certificateTtlMs: 600_000,
      crlSources: () => [],
      staleCrl: { newConnections: "accept", established: "keep" },
      note: () => undefined,
    });
    await copied.start();
    const made = { identity: copied, vault, http: this.#client(copied) };
    this.#all.push(made);
    return made;
  }

  async close(): Promise<void> {
    for (const { identity, vault, http } of this.#all) {
      await http.close();
      await identity.close();
      await vault.close();
    }
  }

  #client(identity: ProcessIdentity): UnixHttpClient {
    return new UnixHttpClient({ socketPath: this.#collector, name: "collector", dial: dialProcess(identity, "collector") });
  }

  async #member(uri: string, name: string, credentialsFile: string): Promise<Member> {
    const vault = openVault({ address: this.#bao.address, auth: { method: "approle", credentialsFile } });
    const identity = await identify({
      uri,
      config: {
        dir: join(this.#where.home, `${name}-identity`),
        certificateTtlMs: 600_000,
        staleCrl: { newConnections: "refuse", established: "keep" },
      },
      pki: vault.pki,
      collector: this.#collector,
      log: pino({ level: "silent" }),
    });
    const made = { identity, vault, http: this.#client(identity) };
    this.#all.push(made);
    return made;
  }
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
