/**
 * The swarm's page in the Temporal Web UI: what a person on call would write on a board.
 */
import { type LastPlan, type SwarmStatus } from "../models/swarm-messages.ts";

export interface SwarmPage {
  /** Search attribute ForeshiftPhase. */
  readonly phase: "waiting" | "stopped" | "frozen" | "acting" | "serving";
  /** Markdown. */
  readonly text: string;
}

export function swarmPage(status: SwarmStatus, lastPlan: LastPlan | undefined): SwarmPage {
  const phase = phaseOf(status);
  const lines = [`**Swarm ${status.swarm}: ${phase}**`, ""];
  if (status.stopped !== undefined) {
    lines.push(`Stopped by ${status.stopped.by}: ${status.stopped.reason}. Nothing is changed until it is resumed.`, "");
  }
  if (status.endpoints.length > 0) {
    lines.push("| endpoint | phase | weight | signal | why |", "|---|---|---|---|---|");
    for (const { endpoint, phase: state, weight, signal, reason } of status.endpoints) {
      lines.push(`| ${endpoint} | ${state} | ${weight} | ${signal} | ${reason} |`);
    }
    lines.push("");
  }
  for (const run of status.runs) lines.push(`- under way: \`${run.workflowId}\``);
  for (const { step, because } of lastPlan?.withheld ?? []) {
    lines.push(`- withheld: ${step.kind}${"endpoint" in step ? ` of ${step.endpoint}` : ""}, because ${because}`);
  }
  if (status.recent.length > 0) lines.push("", "Latest:", "", ...status.recent.map((line) => `- ${line}`));
  return { phase, text: lines.join("\n") };
}

function phaseOf(status: SwarmStatus): SwarmPage["phase"] {
  if (status.spec === undefined) return "waiting";
  if (status.stopped !== undefined) return "stopped";
  if (status.frozenSinceMs !== undefined) return "frozen";
  return status.runs.length > 0 ? "acting" : "serving";
}
