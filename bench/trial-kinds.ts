/** What the benchmark of foresight plays: faults of one machine that build up, and a load that grows beyond what the swarm carries. */
import { BUILD_UP_KINDS } from "../lab/lab-client.ts";

export const TRIAL_KINDS = [...BUILD_UP_KINDS, "session-growth"] as const;
export type TrialKind = (typeof TRIAL_KINDS)[number];
