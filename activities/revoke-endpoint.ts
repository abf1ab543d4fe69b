/**
 * Revocation of endpoints: their agents are heard no more, their certificates are on the list. It is somebody's order, not automation's
 * choice, so the stop switch does not hold it up.
 */
import { ForeshiftError } from "../models/errors.ts";
import { agentIdentity } from "../models/identity.ts";
import { counted } from "../models/words.ts";
import { type ActivityDeps, asActivity, asFinish, type StepInput } from "./deps.ts";

export function revokeEndpointActivities(deps: ActivityDeps) {
  return {
    /** UNKNOWN_ENDPOINT for a name that neither balancer, hypervisor nor telemetry knows. One that is gone already can be revoked too. */
    findEndpoint(input: { swarm: string; endpoint: string }): Promise<void> {
      return asActivity(async () => {
        const { endpoint, swarm } = input;
        const sources = await Promise.allSettled([
          deps.balancer.desired().then((desired) => (desired?.members ?? []).map((member) => member.endpoint)),
          deps.hypervisor.list(swarm).then((machines) => machines.map(({ name }) => name)),
          deps.store.heartbeats(swarm).then((heartbeats) => heartbeats.map((heartbeat) => heartbeat.endpoint)),
        ]);
        if (sources.some((source) => source.status === "fulfilled" && source.value.includes(endpoint))) return;
        const failed = sources.find((source) => source.status === "rejected");
        if (failed !== undefined) throw failed.reason;
        throw new ForeshiftError("UNKNOWN_ENDPOINT", { field: "endpoint", value: endpoint });
      });
    },

    /** Its agent is not heard from here on, whatever certificate it shows. */
    revokeEndpoint(input: StepInput & { endpoint: string }): Promise<void> {
      return asFinish(deps, input, "revoke an endpoint", async () => {
        const { endpoint, reason, swarm } = input;
        await deps.store.revokeEndpoint({ swarm, endpoint, reason });
        return { result: undefined, text: `${endpoint} is not heard any more`, endpoint };
      });
    },

    /**
     * The login of the endpoint's agent, with the tokens it has, and every certificate of it that has not ended: after the login, for with it
     * it could get another. A Vault that does not let us end the login keeps no certificate from the list.
     */
    revokeIdentity(input: StepInput & { endpoint: string }): Promise<readonly string[]> {
      return asFinish(deps, input, "revoke certificates", async () => {
        const { endpoint, swarm } = input;
        const [login] = await Promise.allSettled([deps.agentLogins.end({ swarm, endpoint })]);
        const serials = await deps.certificates.serialsOf(agentIdentity(swarm, endpoint));
        for (const serial of serials) await deps.certificates.revoke(serial);
        if (login.status === "rejected") throw login.reason;
        const text = `${counted(serials.length, "certificate")} of ${endpoint} on the revocation list, and its login at Vault is ended`;
        return { result: serials, text, endpoint, details: { serials } };
      });
    },
  };
}
