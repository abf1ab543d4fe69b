/**
 * Hears that something changed in a swarm that a decision may rest on, so that whoever watches looks at once. Who misses it looks anyway.
 */
import { z } from "zod";
import { listen } from "./listener.ts";
import { TELEMETRY_CHANNEL } from "./telemetry.ts";

export interface TelemetryNewsFeed {
  /** Grows when there is news of the swarm, or when some may have been missed. */
  countOf(swarm: string): number;
  close(): Promise<void>;
}

const Notice = z.object({ swarm: z.string() });

export function followTelemetryNews(options: { databaseUrl: string; onBreak: (thrown: unknown) => void }): TelemetryNewsFeed {
  const stop = new AbortController();
  const counts = new Map<string, number>();
  let missed = 0;
  const listening = listen({
    databaseUrl: options.databaseUrl,
    channel: TELEMETRY_CHANNEL,
    onNotice: (payload) => {
      const swarm = swarmOf(payload);
      if (swarm === undefined) missed += 1;
      else counts.set(swarm, (counts.get(swarm) ?? 0) + 1);
    },
    onListening: () => (missed += 1),
    onBreak: options.onBreak,
    signal: stop.signal,
  });
  return {
    countOf: (swarm) => missed + (counts.get(swarm) ?? 0),
    close: async () => {
      stop.abort();
      await listening;
    },
  };
}

/** Undefined, which stands for all, when somebody else wrote to the channel. */
function swarmOf(payload: string): string | undefined {
  try {
    return Notice.parse(JSON.parse(payload)).swarm;
  } catch {
    return undefined;
  }
}
