/**
 * Steps on the store: audit rows of a whole run, pages, the swarm file in force, the stop switch.
 */
import { Context } from "@temporalio/activity";
import { LIMITS } from "../models/limits.ts";
import type { SwarmSpec } from "../models/swarm-spec.ts";
import { type ActivityDeps, asActivity, pause } from "./deps.ts";

export interface AuditInput {
  readonly operation: string;
  readonly swarm: string;
  readonly endpoint?: string;
  readonly action: string;
  readonly outcome: "done" | "already-done" | "refused" | "failed";
  readonly text: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

export interface StoppedBy {
  readonly by: string;
  readonly reason: string;
  readonly atMs: number;
}

export function storeActivities(deps: ActivityDeps) {
  return {
    writeAudit(input: AuditInput): Promise<void> {
      return asActivity(async () => {
        const { workflowExecution } = Context.current().info;
        await deps.store.audit({
          ...input,
          endpoint: input.endpoint,
          workflowId: workflowExecution?.workflowId,
          runId: workflowExecution?.runId,
          details: input.details ?? {},
        });
      });
    },

    page(input: { operation: string; swarm: string; subject: string; text: string }): Promise<void> {
      return asActivity(() => deps.store.page(input));
    },

    saveSpec(input: { spec: SwarmSpec }): Promise<void> {
      return asActivity(async () => {
        await deps.store.saveSpec(input.spec);
        await deps.keepSchedules?.();
      });
    },

    setStopSwitch(input: { scope: string; on: boolean; by: string; reason: string }): Promise<void> {
      return asActivity(async () => {
        await deps.store.setStopSwitch(input);
        deps.stopGuard.forget();
        // The switch holds without it: every step of a run reads the row. The trainer repairs what fails here.
        await deps.keepSchedules?.().catch(() => undefined);
      });
    },

    /** Returns when no switch holds this swarm. */
    awaitResumed(input: { swarm: string }): Promise<void> {
      return asActivity(async () => {
        while ((await deps.stopGuard.switchFor(input.swarm)) !== undefined) await pause(LIMITS.control.stopSwitchPollMs);
      });
    },
  };
}
