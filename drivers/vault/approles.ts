/**
 * Giving others a way to log in: wrapped secret-ids of processes, and an AppRole of its own for each endpoint's agent.
 */
import { z } from "zod";
import { IDENTITY_LIMITS } from "../../models/limits-identity.ts";
import { agentPolicy, agentRole, type VaultMounts, type VaultProcess } from "../../models/vault-layout.ts";
import type { Credentials } from "./credentials.ts";
import type { VaultSession } from "./session.ts";

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
}

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
  };
}
