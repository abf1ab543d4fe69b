/** Vault's versions of keys, and the hook that reaches clients, of a world. A key is no more than its version's name here. */
import type {
  AgentLogins,
  CertificateHolder,
  CertificateHolders,
  Certificates,
  ClientProvisioner,
  IdentityOrder,
  KeyVault,
  PayloadKeys,
} from "../../../drivers/key-ports.ts";
import type { PeerKey } from "../../../drivers/ports.ts";
import { ForeshiftError } from "../../../models/errors.ts";
import { refName, versionsToDestroy } from "../../../models/keys.ts";
import type { Calls } from "./calls.ts";
import { FILE_KEY, type Fleet, type SimulatedClient } from "./fleet.ts";

/** Its version's number, where a key would be. */
export function staticKeyOf(version: number): string {
  return Buffer.alloc(32, version).toString("base64");
}

interface SimulatedVersion {
  readonly version: number;
  destroyed: boolean;
}

export class SimulatedKeys {
  readonly versions = new Map<string, SimulatedVersion[]>([[FILE_KEY.secret.path, [{ version: 1, destroyed: false }]]]);
  readonly #fleet: Fleet;
  readonly #calls: Calls;

  constructor(fleet: Fleet, calls: Calls) {
    this.#fleet = fleet;
    this.#calls = calls;
  }

  readonly vault: KeyVault = {
    newestVersion: ({ path }) => this.#calls.read("vault.newest", () => this.versions.get(path)?.length ?? 0),
    issuePresharedKey: ({ after, path }) =>
      this.#calls.change("vault.issue", `${path}@${after}`, () => {
        const held = this.versions.get(path) ?? [];
        const version = after + 1;
        this.versions.set(path, [...held, { version, destroyed: false }]);
        return { path, version };
      }),
    issueStaticKey: ({ after, path }) =>
      this.#calls.each("vault.issueStatic", () => {
        const held = this.versions.get(path) ?? [];
        for (const lost of held.slice(after)) lost.destroyed = true;
        const version = held.length + 1;
        this.versions.set(path, [...held, { version, destroyed: false }]);
        return { secret: { path, version }, publicKey: staticKeyOf(version) };
      }),
    destroyOthers: ({ path, keep }) =>
      this.#calls.read("vault.destroyOthers", () =>
        this.#destroy(path, versionsToDestroy(this.versions.get(path) ?? [], keep)),
      ),
    destroy: ({ path, versions }) => this.#calls.read("vault.destroy", () => void this.#destroy(path, versions)),
  };

  readonly revokedSerials = new Set<string>();

  readonly certificates: Certificates = {
    revoke: (serial) => this.#calls.read("pki.revoke", () => void this.revokedSerials.add(serial)),
    // One of each, whose serial is its name.
    serialsOf: (identity) => this.#calls.read("pki.serials", () => [identity]),
  };

  /** Endpoints whose agents log in no more. */
  readonly endedLogins = new Set<string>();

  readonly agentLogins: AgentLogins = {
    end: ({ endpoint }) => this.#calls.read("vault.endLogin", () => void this.endedLogins.add(endpoint)),
  };

  /** Serial of each holder's certificate; holders that keep using the old one, and those that nobody reaches. */
  readonly serials = new Map<string, string>();
  readonly clinging = new Set<string>();
  readonly unreachable = new Set<string>();

  readonly holders: CertificateHolders = {
    processes: ["hypervisor", "reflex", "collector", "control"].map((name) => this.#holder(name)),
    agent: (_, endpoint) => this.#holder(endpoint),
  };

  #holder(name: string): CertificateHolder {
    const first = `${name}-1`;
    const held = () => {
      if (this.unreachable.has(name)) throw new ForeshiftError("UNREACHABLE", { field: name, value: name, detail: "away" });
      return this.serials.get(name) ?? first;
    };
    const peers = () => [...this.clinging].map((one) => `${one}-1`);
    return {
      name,
      held: () => this.#calls.read("holder.held", () => ({ serial: held(), peers: peers() })),
      renew: (after) =>
        this.#calls.read("holder.renew", () => {
          const serial = held() === after ? `${name}-${Number(after.split("-").at(-1)) + 1}` : held();
          this.serials.set(name, serial);
          return serial;
        }),
      shown: () => this.#calls.read("holder.shown", () => (this.clinging.has(name) ? first : held())),
    };
  }

  /** Versions of the transit key that wrap data keys, one entry for each data key. */
  readonly wraps = [1, 1, 1, 1, 1];
  transitVersion = 1;
  oldestReadable = 1;

  readonly payloadKeys: PayloadKeys = {
    latestVersion: () => this.#calls.read("transit.latest", () => this.transitVersion),
    rotate: () => this.#calls.read("transit.rotate", () => ++this.transitVersion),
    rewrapSome: () =>
      this.#calls.read("transit.rewrap", () => {
        const old = this.wraps.flatMap((version, at) => (version < this.transitVersion ? [at] : []));
        const some = old.slice(0, 2);
        for (const at of some) this.wraps[at] = this.transitVersion;
        return { rewrapped: some.length, left: old.length - some.length };
      }),
    retireOld: () =>
      this.#calls.read("transit.retire", () => {
        this.oldestReadable = Math.min(...this.wraps);
        return this.oldestReadable;
      }),
  };

  readonly provisioner: ClientProvisioner = {
    distribute: ({ keys }) => this.#calls.read("provisioner.distribute", () => this.#tell(keys, () => undefined)),
    activate: ({ keys, handshake }) =>
      this.#calls.read("provisioner.activate", () =>
        this.#tell(keys, (client, key) => {
          if (client.honest) client.ownKey = key.presharedKey === undefined ? undefined : refName(key.presharedKey);
          const { endpoint } = client;
          if (handshake && endpoint !== undefined) this.#fleet.shakeHands(client, this.#fleet.machine(endpoint));
        }),
      ),
    bringIdentity: (order) =>
      this.#calls.change("provisioner.bring", order.operation, () =>
        this.#order(order, ({ ways }, key) => {
          if (!ways.includes(key)) ways.push(key);
        }),
      ),
    useIdentity: (order) =>
      this.#calls.change("provisioner.use", order.operation, () =>
        this.#order(order, (client, key) => {
          client.ways = [key, ...client.ways.filter((way) => way !== key)];
        }),
      ),
    dropIdentity: (order) =>
      this.#calls.change("provisioner.drop", order.operation, () =>
        this.#order(order, (client, key) => {
          client.ways = client.ways.filter((way, at) => at === 0 || way !== key);
        }),
      ),
  };

  #order(order: IdentityOrder, change: (client: SimulatedClient, key: string) => void) {
    return this.#tell(
      order.publicKeys.map((publicKey) => ({ publicKey })),
      (client) => {
        if (client.ways.length === 0) client.ways.push(FILE_KEY.publicKey);
        if (client.honest) change(client, order.identity.publicKey);
      },
    );
  }

  #destroy(path: string, versions: readonly number[]): number {
    for (const held of this.versions.get(path) ?? []) if (versions.includes(held.version)) held.destroyed = true;
    return versions.length;
  }

  #tell(keys: readonly PeerKey[], tell: (client: SimulatedClient, key: PeerKey) => void) {
    const taken: string[] = [];
    const refused: string[] = [];
    for (const key of keys) {
      const client = this.#fleet.client(key.publicKey);
      if (client === undefined || !client.reachable) refused.push(key.publicKey);
      else {
        tell(client, key);
        taken.push(key.publicKey);
      }
    }
    return { taken, refused };
  }
}
