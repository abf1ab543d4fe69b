/** Inputs of the decision for tests: a spec, an endpoint that is well, and a swarm of such endpoints. */
import type { EndpointObservation, Observation } from "../../models/observation.ts";
import { SwarmSpec } from "../../models/swarm-spec.ts";

export type SpecChange = {
  [Key in "endpoints" | "budget" | "thresholds" | "outlier" | "foresight"]?: Record<string, unknown>;
};

export function specOf(change: SpecChange = {}): SwarmSpec {
  return SwarmSpec.parse({
    apiVersion: "foreshift/v1",
    kind: "Swarm",
    name: "lab",
    vip: { v4: "198.19.0.1" },
    key: { secret: { path: "swarms/lab/wireguard", version: 1 }, publicKey: "q1nY2tZ0Kk3fC0hR5aTnGm4bqkVYb1i0Jf2x0sX8d1c=" },
    ...change,
    endpoints: { count: 3, ...change.endpoints },
  });
}

export function endpointOf(endpoint: string, change: Partial<EndpointObservation> = {}): EndpointObservation {
  return {
    endpoint,
    machine: "running",
    weight: 100,
    draining: false,
    ejected: false,
    ejectedAtMs: undefined,
    ejections: 0,
    innerLoss: 0,
    innerRttMsP75: 2,
    innerRttMsMax: 4,
    innerMissesInARow: 0,
    innerProbes: 30,
    outerAnswers: true,
    heartbeatAgeMs: 500,
    cpuShare: 0.2,
    cpuPressure: 0.05,
    tunnelUp: true,
    sessions: 10,
    ...change,
  };
}

export function observationOf(endpoints: readonly EndpointObservation[], change: Partial<Observation> = {}): Observation {
  return { atMs: 0, endpoints, ghosts: ["ghost-1"], reflexSeq: 0, reflexAnswers: true, ...change };
}

/** ep-1 … ep-n, all well, with what is said of some of them. */
export function swarmOf(
  count: number,
  changes: Readonly<Record<string, Partial<EndpointObservation>>> = {},
): EndpointObservation[] {
  return Array.from({ length: count }, (_, index) => endpointOf(`ep-${index + 1}`, changes[`ep-${index + 1}`]));
}
