/**
 * The swarm's page in the Temporal Web UI: what a person on call would write on a board.
 */
import { setCurrentDetails, upsertSearchAttributes } from "@temporalio/workflow";
import type { LastPlan, SwarmStatus } from "../models/swarm-messages.ts";
import { SEARCH_ATTRIBUTES } from "./run.ts";

const RECENT_LINES_MAX = 12;

/** The latest lines, and the page that is shown. */
export class SwarmBoard {
  #recent: readonly string[];
  #phase = "";

  constructor(recent: readonly string[]) {
    this.#recent = recent;
  }

  /** Latest first, each one sentence. */
  get recent(): readonly string[] {
    return this.#recent;
  }

  note(line: string): void {
    this.#recent = [`${new Date().toISOString().slice(0, 19)}Z ${line}`, ...this.#recent].slice(0, RECENT_LINES_MAX);
  }

  show(status: SwarmStatus, lastPlan: LastPlan | undefined): void {
    const { phase, text } = swarmPage(status, lastPlan);
    setCurrentDetails(text);
    if (phase === this.#phase) return;
    this.#phase = phase;
    upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.phase, value: phase }]);
  }
}

interface SwarmPage {
  /** Search attribute ForeshiftPhase. */
  readonly phase: "waiting" | "stopped" | "frozen" | "acting" | "serving";
  /** Markdown. */
  readonly text: string;
}

function swarmPage(status: SwarmStatus, lastPlan: LastPlan | undefined): SwarmPage {
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
  if (status.roll !== undefined) lines.push(`- rollout of \`${status.roll.image}\`, ${status.roll.phase}: ${status.roll.text}`);
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
