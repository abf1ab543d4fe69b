/**
 * Giving others a way to log in: wrapped secret-ids of processes, and an AppRole of its own for each endpoint's agent.
 */
import { z } from "zod";
import { IDENTITY_LIMITS } from "../../models/limits-identity.ts";
import { agentPolicy, agentRole, awsMount, type VaultMounts, type VaultProcess } from "../../models/vault-layout.ts";
import type { AgentLogins } from "../key-ports.ts";
import type { Credentials } from "./credentials.ts";
import type { VaultSession } from "./session.ts";
import { isMissing } from "./transport.ts";

export interface AgentName {
  readonly swarm: string;
  readonly endpoint: string;
}

export interface AppRoles {
  /** A process's AppRole with a wrapped secret-id: for its credentials file. */
  forProcess(process: VaultProcess): Promise<Credentials>;
  /** Makes the agent's AppRole, or finds it, and answers it with a wrapped secret-id. */
  enrolAgent(agent: AgentName): Promise<Credentials>;
  /** Ends the agent's AppRole: it logs in no more, and its token is not renewed. One that is gone already is a success. */
  dismissAgent(agent: AgentName): Promise<void>;
  /** Makes the tokens that the agent has worthless, at once. Dismiss it first: it would log in again. */
  disownAgent(agent: AgentName): Promise<void>;
}

/** Who has logged in, by id: by an AppRole its role-id, by AWS an ARN that ends in the instance's name. */
const AliasList = z.object({
  data: z.object({
    key_info: z.record(z.string(), z.object({ name: z.string(), canonical_id: z.string(), mount_path: z.string().optional() })),
  }),
});
type AliasList = z.infer<typeof AliasList>;

const WrappedAnswer = z.object({ wrap_info: z.object({ token: z.string().min(1) }) });

export function openAppRoles(session: VaultSession, mounts: VaultMounts): AppRoles {
  const wrapped = async (mount: string, role: string): Promise<Credentials> => {
    const path = `auth/${mount}/role/${role}/secret-id`;
    const wrapTtlS = IDENTITY_LIMITS.wrapTtlMs / 1_000;
    const ask = { what: `a secret-id of ${role}`, method: "POST", path, body: {}, wrapTtlS } as const;
    const { wrap_info } = await session.ask(ask, WrappedAnswer);
    return { mount, role, roleId: role, wrappingToken: wrap_info.token };
  };
  return {
    forProcess: (process) => wrapped(mounts.approle, process),
    async enrolAgent({ swarm, endpoint }) {
      const role = agentRole(swarm, endpoint);
      const { tokenPeriodMs, secretIdTtlMs, secretIdUses } = IDENTITY_LIMITS;
      const body = {
        role_id: role,
        token_policies: `${agentPolicy(swarm)},foreshift-self`,
        token_no_default_policy: true,
        token_period: `${tokenPeriodMs / 1_000}s`,
        secret_id_num_uses: secretIdUses,
        secret_id_ttl: `${secretIdTtlMs / 1_000}s`,
      };
      const ask = {
        what: `the AppRole of ${endpoint}`,
        method: "POST",
        path: `auth/${mounts.agents}/role/${role}`,
        body,
      } as const;
      await session.ask(ask, z.unknown());
      return await wrapped(mounts.agents, role);
    },
    async dismissAgent({ swarm, endpoint }) {
      const path = `auth/${mounts.agents}/role/${agentRole(swarm, endpoint)}`;
      await session.ask({ what: `the AppRole of ${endpoint}`, method: "DELETE", path }, z.unknown());
    },
    async disownAgent({ swarm, endpoint }) {
      const ask = { what: "who has logged in", method: "LIST", path: "identity/entity-alias/id" } as const;
      const known = await session.ask(ask, AliasList).catch(nobody);
      const own = Object.values(known.data.key_info).filter(
        ({ mount_path, name }) =>
          (mount_path === `auth/${mounts.agents}/` && name === agentRole(swarm, endpoint)) ||
          (mount_path === `auth/${awsMount(mounts, swarm)}/` && name.endsWith(`/${endpoint}`)),
      );
      // Vault heeds no token whose entity is gone; another login would make another one.
      for (const { canonical_id } of own) {
        const path = `identity/entity/id/${canonical_id}`;
        await session.ask({ what: `the tokens of ${endpoint}`, method: "DELETE", path }, z.unknown());
      }
    },
  };
}

/** Vault answers an empty list as something that it does not have. */
function nobody(thrown: unknown): AliasList {
  if (isMissing(thrown)) return { data: { key_info: {} } };
  throw thrown;
}

/** Of an agent that is not to be trusted any more: first no further login, then none of its tokens. */
export function agentLogins(appRoles: AppRoles): AgentLogins {
  return {
    async end(agent) {
      await appRoles.dismissAgent(agent);
      await appRoles.disownAgent(agent);
    },
  };
}
