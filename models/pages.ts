/** What a person should be told of now, because nothing here will or should act on it. */
import type { Belief } from "./belief.ts";
import { LIMITS } from "./limits.ts";
import { isCommon } from "./predicted.ts";
import { dataPathIsFine } from "./signals.ts";
import type { SwarmState } from "./swarm-state.ts";
import { countUnhealthy } from "./unhealthy.ts";
import { counted } from "./words.ts";

export interface WantedPage {
  /** Stable while the cause lasts. */
  readonly subject: string;
  readonly reason: string;
}

export function wantedPages(state: SwarmState, beliefs: readonly Belief[], now: number): readonly WantedPage[] {
  return [
    ...frozenPage(state, beliefs, now),
    ...reflexPage(state, now),
    ...beliefs.flatMap((belief) => endpointPages(belief, state, now)),
    ...launchPages(state, now),
    ...predictionPage(state, beliefs, now),
  ];
}

function frozenPage(state: SwarmState, beliefs: readonly Belief[], now: number): WantedPage[] {
  if (typeof state.frozenSinceMs !== "number") return [];
  const { members, unhealthy, doubtful } = countUnhealthy(state.spec, beliefs, now);
  const names = unhealthy.length > 0 ? ` (${unhealthy.join(", ")})` : "";
  const bad = Math.max(unhealthy.length, doubtful);
  const limit = `more than ${state.spec.budget.freezeUnhealthyPercent} % and more than one`;
  const reason = `${bad} of ${members} endpoints are unhealthy at once${names}, ${limit}: nothing is drained until fewer are. Look for a common cause.`;
  return [{ subject: "frozen", reason }];
}

function reflexPage(state: SwarmState, now: number): WantedPage[] {
  const since = state.reflexSilentSinceMs;
  if (typeof since !== "number" || now - since < LIMITS.plan.reflexSilentPageMs) return [];
  const reason = `The reflex has not answered for ${seconds(now - since)}. It goes on by itself; nothing is decided until it answers.`;
  return [{ subject: "reflex-silent", reason }];
}

function endpointPages({ record, seen }: Belief, state: SwarmState, now: number): WantedPage[] {
  const { endpoint, phase } = record;
  if (seen === undefined) return [];
  const pages: WantedPage[] = [];
  const ageMs = seen.heartbeatAgeMs ?? now - record.seenAtMs;
  const isMember = phase === "active" || phase === "degraded";
  if (isMember && ageMs >= LIMITS.plan.heartbeatLostPageMs && dataPathIsFine(seen, state.spec.thresholds)) {
    const reason = `No heartbeat from ${endpoint} for ${seconds(ageMs)}, while its data path is fine: nobody is moved. See to its agent.`;
    pages.push({ subject: `heartbeat/${endpoint}`, reason });
  }
  if (phase === "joining" && now - record.seenAtMs >= LIMITS.plan.launchTimeoutMs) {
    const reason = `${endpoint} has been running for ${seconds(now - record.seenAtMs)} and does not serve: ${record.reason}`;
    pages.push({ subject: `joining/${endpoint}`, reason });
  }
  return pages;
}

function launchPages(state: SwarmState, now: number): WantedPage[] {
  return state.pending
    .filter((one) => now - one.sinceMs >= LIMITS.plan.launchTimeoutMs)
    .map((one) => {
      const reason = `${counted(one.count, one.kind)} asked for ${seconds(now - one.sinceMs)} ago and not there. Look at the hypervisor.`;
      return { subject: `launch/${one.kind}`, reason };
    });
}

function predictionPage(state: SwarmState, beliefs: readonly Belief[], now: number): WantedPage[] {
  if (!isCommon(state, beliefs, now)) return [];
  const reason =
    "Half of the endpoints or more are expected to fail soon: nobody is moved on that account. Look for a common cause.";
  return [{ subject: "predicted-common", reason }];
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}
