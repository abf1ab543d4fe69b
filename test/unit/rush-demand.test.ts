/** From the agents' words to the forecast that is told in a rush: heartbeats a second apart, an endpoint that is new, a lead that is measured. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SwarmDemand } from "../../activities/demand.ts";
import { demandOf } from "../../activities/risk.ts";
import { LiveWindow } from "../../workers/collector/live-window.ts";
import { specOf } from "./fixtures.ts";

const spec = specOf({ endpoints: { capacitySessions: 8, countMax: 6 }, foresight: { mode: "act", windowMs: 60_000 } });
const COLD_MS = 9_000;
const WAKE_MS = 2_000;

/** Three endpoints of four sessions, and since `seconds` ago 1.2 more each second over all of them, told in each one's turn of the second. */
function heard(seconds: number): LiveWindow {
  const live = new LiveWindow();
  const nowMs = Date.now();
  for (let ago = 70; ago >= 0; ago -= 1) {
    const joined = Math.floor(1.2 * Math.max(0, seconds - ago));
    for (const [at, endpoint] of ["ep-1", "ep-2", "ep-3"].entries())
      live.put("lab", endpoint, nowMs - ago * 1_000 - at * 300, [["sessions", 4 + Math.floor((joined + at) / 3)]]);
  }
  return live;
}

async function foreseen(seconds: number, ghosts: readonly string[] | "silent") {
  const live = heard(seconds);
  const row = (launched: number, tookMs: number) => {
    return { atMs: 100_000 + tookMs, outcome: "done", details: { startedAtMs: 100_000, launched } } as const;
  };
  const trail = [row(1, COLD_MS), row(0, WAKE_MS)];
  const store = {
    specs: () => Promise.resolve([spec]),
    telemetry: () => Promise.resolve([]),
    saveLoadForecasts: () => Promise.resolve(),
    saveLoadOutcomes: () => Promise.resolve(),
    auditTrail: ({ workflowId = "" }) => Promise.resolve(workflowId.startsWith("add/") ? trail : []),
  };
  const machine = (name: string) => ({ name, state: "suspended" }) as const;
  const deps = {
    store,
    telemetry: { window: (swarm: string, query: { sinceMs: number }) => Promise.resolve(live.read(swarm, query, Date.now())) },
    balancer: { health: () => Promise.resolve(["ep-1", "ep-2", "ep-3"].map((endpoint) => ({ endpoint }))) },
    hypervisor: {
      list: () =>
        ghosts === "silent" ? Promise.reject(new Error("it does not answer")) : Promise.resolve(ghosts.map(machine)),
    },
  };
  return await demandOf(deps, new SwarmDemand(store), spec);
}

test("a rush is told after some seconds, as far ahead as it takes to launch what it needs", async () => {
  assert.equal(await foreseen(0, ["ghost-1"]), undefined);
  const told = await foreseen(7, ["ghost-1"]);
  assert.ok(told !== undefined, "after seven seconds, the agents' turns included");
  assert.match(told.text, /they grow by \d+(\.\d)? a minute/);
  assert.ok(told.sessionsUpper > 26 && told.horizonMs >= WAKE_MS + COLD_MS, JSON.stringify(told));
  const many = await foreseen(7, ["ghost-1", "ghost-2", "ghost-3", "ghost-4"]);
  assert.ok((many?.horizonMs ?? 0) < told.horizonMs, "more ghosts, less ahead");
});

test("a hypervisor that does not answer has no ghosts, and nothing else waits for it", async () => {
  const told = await foreseen(7, "silent");
  assert.ok((told?.horizonMs ?? 0) > WAKE_MS + COLD_MS, JSON.stringify(told));
});
