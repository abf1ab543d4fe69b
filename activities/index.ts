/**
 * All activities, grouped by the downstream whose task queue they run on.
 */
import { balancerActivities } from "./balancer.ts";
import { certificateActivities } from "./certificates.ts";
import type { ActivityDeps } from "./deps.ts";
import { hypervisorActivities } from "./hypervisor.ts";
import { ipsecMoveActivities, ipsecPinActivities } from "./ipsec.ts";
import { keyActivities } from "./keys.ts";
import { staticKeyActivities } from "./keys-static.ts";
import { payloadKeyActivities } from "./payload-keys.ts";
import { revokeActivities } from "./revoke.ts";
import { revokeEndpointActivities } from "./revoke-endpoint.ts";
import { riskActivities } from "./risk.ts";
import { sessionActivities } from "./sessions.ts";
import { storeActivities } from "./store.ts";
import { watchActivities } from "./watch.ts";

export function createActivities(deps: ActivityDeps) {
  return {
    balancer: { ...balancerActivities(deps), ...ipsecPinActivities(deps) },
    hypervisor: hypervisorActivities(deps),
    agents: { ...sessionActivities(deps), ...ipsecMoveActivities(deps) },
    store: storeActivities(deps),
    vault: {
      ...keyActivities(deps),
      ...staticKeyActivities(deps),
      ...revokeActivities(deps),
      ...payloadKeyActivities(deps),
      ...certificateActivities(deps),
      ...revokeEndpointActivities(deps),
    },
    watch: { ...watchActivities(deps), ...riskActivities(deps) },
  };
}

export type Activities = ReturnType<typeof createActivities>;
/** Task queues of activities; workflows run on `control`. */
export type ActivityQueue = keyof Activities;
