/**
 * Leads the sessions that are too many for an endpoint to others that have room; it goes on serving the rest at its full weight. Nothing has
 * to be put back: a session that does not come over stays where it lives.
 */
import { workflowInfo } from "@temporalio/workflow";
import type { RelieveStep } from "../models/step.ts";
import type { EndpointRelieved } from "../models/swarm-messages.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { counted } from "../models/words.ts";
import { reasonOf } from "./failures.ts";
import { endpointRelievedSignal } from "./messages.ts";
import { moveShares } from "./move-sessions.ts";
import { agents } from "./queues.ts";
import { audit, Journal, tellSwarm } from "./run.ts";

export interface RelieveInput {
  readonly endpoint: string;
  readonly to: RelieveStep["to"];
  readonly reason: string;
  readonly spec: SwarmSpec;
}

export async function relieveEndpoint(input: RelieveInput): Promise<EndpointRelieved> {
  const { endpoint, reason, spec, to } = input;
  const wanted = to.reduce((sum, { sessions }) => sum + sessions, 0);
  const journal = new Journal({
    swarm: spec.name,
    endpoint,
    cause: "excess",
    title: `Lead ${counted(wanted, "session")} away from ${endpoint}: ${reason}`,
  });
  journal.enter("moving");
  let moved = 0;
  let why: string | undefined;
  try {
    const led = await leadAway(journal, input);
    moved = led.moved;
    why = led.failed === undefined ? undefined : reasonOf(led.failed);
  } catch (thrown) {
    why = reasonOf(thrown);
  }
  const outcome = why === undefined ? "done" : "failed";
  const rest = why === undefined ? "" : ` The others stay where they live, because: ${why}.`;
  const text = `${moved} of ${counted(wanted, "session")} led away from ${endpoint}.${rest} ${reason}`;
  const details = { wanted, sessionsMoved: moved, targets: to.map((one) => one.endpoint) };
  await audit({ name: "end", swarm: spec.name, endpoint, action: "relieve", outcome, text, details });
  journal.note(text);
  journal.enter(outcome);
  const fact: EndpointRelieved = { workflowId: workflowInfo().workflowId, endpoint, failed: outcome === "failed", text };
  await tellSwarm(spec.name, endpointRelievedSignal, fact);
  return fact;
}

/** Those that carry packets first: they are what it has too many of. Fewer than were asked for where it holds fewer by now. */
async function leadAway(journal: Journal, input: RelieveInput): Promise<{ moved: number; failed: unknown }> {
  const { endpoint, reason, spec, to } = input;
  const { reachable, active, quiet } = await agents.listSessions.executeWithOptions(
    { summary: `Which sessions live on ${endpoint}?` },
    [{ swarm: spec.name, endpoint }],
  );
  if (!reachable) return { moved: 0, failed: `${endpoint} does not answer` };
  const candidates = [...active.toSorted(), ...quiet.toSorted()];
  const shares = to.map((target) => ({ to: target.endpoint, publicKeys: candidates.splice(0, target.sessions) }));
  const request = { from: endpoint, policy: spec.move, reason, name: "lead" };
  const { verified, failed } = await moveShares(
    journal,
    request,
    shares.filter(({ publicKeys }) => publicKeys.length > 0),
    new Set(active),
  );
  return { moved: verified.length, failed };
}
