/**
 * The members' agents, each with one client that lives as long as the member's socket stays the same, and one connection that is kept open:
 * its handshake would otherwise be paid for when a member has died and its clients wait.
 */
import type { Socket } from "node:net";
import type { Dial } from "../../drivers/http-unix.ts";
import type { EndpointAgent } from "../../drivers/ports.ts";
import { agentClient, type IpsecAgent, type LeavingIpsecAgent } from "../../drivers/tunnel/agent-client.ts";
import { LIMITS } from "../../models/limits.ts";
import type { Member } from "../../models/steering.ts";

/** Each is asked this often, so that what was begun with a certificate that has been replaced is soon given up. */
const WARM_INTERVAL_MS = 3_000;
/** A round that comes late, or several of them, loses no connection; the server closes it later than this. */
const KEEP_ALIVE_MS = 0.8 * LIMITS.http.serverKeepAliveMs;

export interface MemberAgent extends Pick<Member, "endpoint"> {
  readonly link: Pick<Member["link"], "agent">;
}

interface Known {
  readonly socketPath: string;
  readonly client: EndpointAgent & IpsecAgent & LeavingIpsecAgent;
  isAsked: boolean;
}

export class Agents {
  readonly #members: () => readonly MemberAgent[];
  readonly #dialOf: ((endpoint: string) => Dial<Socket>) | undefined;
  readonly #known = new Map<string, Known>();
  #warming: NodeJS.Timeout | undefined;

  /** `dialOf`: with certificates, to the endpoint's agent; undefined where connections have none. */
  constructor(members: () => readonly MemberAgent[], dialOf: ((endpoint: string) => Dial<Socket>) | undefined) {
    this.#members = members;
    this.#dialOf = dialOf;
  }

  /** Until it is closed. Without certificates a connection costs nothing. */
  keepWarm(): void {
    if (this.#dialOf !== undefined) this.#warming = setInterval(() => this.#askAll(), WARM_INTERVAL_MS);
  }

  of(endpoint: string): (EndpointAgent & IpsecAgent) | undefined {
    return this.#knownOf(endpoint)?.client;
  }

  /** Of one that is no member any more, for whoever has something to ask of it still, and closes it: the connection that there is, if there is one. */
  leaving({ endpoint, link }: MemberAgent): LeavingIpsecAgent {
    const known = this.#known.get(endpoint);
    if (known?.socketPath === link.agent) {
      this.#known.delete(endpoint);
      return known.client;
    }
    const { adoptTimeoutMs: timeoutMs } = LIMITS.reflex;
    return agentClient({ socketPath: link.agent, dial: this.#dialOf?.(endpoint), timeoutMs });
  }

  #knownOf(endpoint: string): Known | undefined {
    const socketPath = this.#socketOf(endpoint);
    const known = this.#known.get(endpoint);
    if (known !== undefined && known.socketPath === socketPath) return known;
    if (socketPath === undefined) return undefined;
    const { adoptTimeoutMs: timeoutMs } = LIMITS.reflex;
    const client = agentClient({ socketPath, dial: this.#dialOf?.(endpoint), timeoutMs, keepAliveMs: KEEP_ALIVE_MS });
    const fresh = { socketPath, client, isAsked: false };
    this.#known.set(endpoint, fresh);
    return fresh;
  }

  /** One that does not answer is the prober's to find out. */
  #askAll(): void {
    for (const { endpoint } of this.#members()) {
      const known = this.#knownOf(endpoint);
      if (known === undefined || known.isAsked) continue;
      known.isAsked = true;
      const done = () => {
        known.isAsked = false;
      };
      known.client.status().then(done, done);
    }
  }

  /** Lets go of agents that are no members' any more. */
  async sync(): Promise<void> {
    const gone = [...this.#known].filter(([endpoint, { socketPath }]) => this.#socketOf(endpoint) !== socketPath);
    for (const [endpoint] of gone) this.#known.delete(endpoint);
    await Promise.allSettled(gone.map(([, { client }]) => client.close()));
  }

  async close(): Promise<void> {
    clearInterval(this.#warming);
    await Promise.allSettled([...this.#known.values()].map(({ client }) => client.close()));
  }

  #socketOf(endpoint: string): string | undefined {
    return this.#members().find((member) => member.endpoint === endpoint)?.link.agent;
  }
}
