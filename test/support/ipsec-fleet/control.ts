/** The workflows, on a Temporal server of their own, over the real reflex and the agents in the guests; machines and audit trail are in memory. */
import { reflexClient } from "../../../drivers/balancer/reflex-client.ts";
import type { AuditRow } from "../../../drivers/ports.ts";
import { agentClient } from "../../../drivers/tunnel/agent-client.ts";
import type { DrainFinished } from "../../../models/swarm-messages.ts";
import { drainEndpoint } from "../../../workflows/drain-endpoint.ts";
import { specFor, startServer, startWorkers } from "../../workflows/support.ts";
import { World } from "../../workflows/world.ts";

const SPEC = specFor({ name: "lab", move: { verifyTimeoutMs: 20_000, overlapMs: 1_000 } });

export interface Control {
  drain(endpoint: string): Promise<DrainFinished>;
  readonly trail: readonly AuditRow[];
  stop(): Promise<void>;
}

export async function startControl(reflexSocket: string, endpoints: readonly string[]): Promise<Control> {
  const world = new World();
  for (const endpoint of endpoints) world.addMachine(endpoint, "running");
  const balancer = reflexClient({ socketPath: reflexSocket });
  const server = await startServer();
  const agentOf = ({ agent: socketPath }: { readonly agent: string }) => agentClient({ socketPath });
  const workers = await startWorkers(server, world, { balancer, agentOf });
  return {
    trail: world.auditRows,
    drain: (endpoint) =>
      server.client.workflow.execute(drainEndpoint, {
        taskQueue: "control",
        workflowId: `drain/lab/${endpoint}`,
        args: [{ endpoint, cause: "test", reason: "The test asks for it", weight: 100, spec: SPEC }],
      }),
    stop: async () => {
      await workers.stop();
      await server.stop();
      await balancer.close();
    },
  };
}
