/** Starts the workflow that scores a swarm's endpoints: one for each swarm, for as long as it lives. */
import { WorkflowExecutionAlreadyStartedError } from "@temporalio/common";
import { ChildWorkflowCancellationType, ParentClosePolicy, startChild, WorkflowIdReusePolicy } from "@temporalio/workflow";
import { predictionIdOf } from "../models/decision.ts";
import { predict } from "./predict.ts";

/** A second start finds it running. It outlives the swarm workflow's continue-as-new. */
export async function beginPredicting(swarm: string): Promise<void> {
  try {
    await startChild(predict, {
      args: [{ swarm, told: [] }],
      workflowId: predictionIdOf(swarm),
      workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
      parentClosePolicy: ParentClosePolicy.ABANDON,
      cancellationType: ChildWorkflowCancellationType.ABANDON,
      staticSummary: `Score the endpoints of ${swarm}`,
    });
  } catch (thrown) {
    if (!(thrown instanceof WorkflowExecutionAlreadyStartedError)) throw thrown;
  }
}
