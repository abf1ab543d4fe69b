/** The members' agents, each with one client that lives as long as the member's socket stays the same. */
import type { Dial } from "../../drivers/http-unix.ts";
import { dialAgent } from "../../drivers/identity/dial.ts";
import type { ProcessIdentity } from "../../drivers/identity/process-identity.ts";
import type { EndpointAgent } from "../../drivers/ports.ts";
import { agentClient } from "../../drivers/tunnel/agent-client.ts";
import { LIMITS } from "../../models/limits.ts";
import type { ReflexState } from "./state.ts";

interface Known {
  readonly socketPath: string;
  readonly client: EndpointAgent & { close(): Promise<void> };
}

export class Agents {
  readonly #state: ReflexState;
  readonly #identity: ProcessIdentity | undefined;
  readonly #known = new Map<string, Known>();

  constructor(state: ReflexState, identity: ProcessIdentity | undefined) {
    this.#state = state;
    this.#identity = identity;
  }

  of(endpoint: string): EndpointAgent | undefined {
    const socketPath = this.#socketOf(endpoint);
    const known = this.#known.get(endpoint);
    if (known !== undefined && known.socketPath === socketPath) return known.client;
    if (socketPath === undefined) return undefined;
    const client = agentClient({ socketPath, dial: this.#dial(endpoint), timeoutMs: LIMITS.reflex.adoptTimeoutMs });
    this.#known.set(endpoint, { socketPath, client });
    return client;
  }

  /** Lets go of agents that are no members' any more. */
  async sync(): Promise<void> {
    const gone = [...this.#known].filter(([endpoint, { socketPath }]) => this.#socketOf(endpoint) !== socketPath);
    for (const [endpoint] of gone) this.#known.delete(endpoint);
    await Promise.allSettled(gone.map(([, { client }]) => client.close()));
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#known.values()].map(({ client }) => client.close()));
  }

  #dial(endpoint: string): Dial | undefined {
    return this.#identity === undefined ? undefined : dialAgent(this.#identity, endpoint);
  }

  #socketOf(endpoint: string): string | undefined {
    return this.#state.desired?.members.find((member) => member.endpoint === endpoint)?.link.agent;
  }
}
