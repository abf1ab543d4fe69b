/**
 * Machines in network namespaces, or virtual machines: the lab's hypervisor, asked over its unix socket.
 */
import { z } from "zod";
import { LIMITS } from "../../models/limits.ts";
import { MACHINE_LIMITS } from "../../models/limits-machines.ts";
import { MemberLink } from "../../models/steering.ts";
import { RETRY_IDEMPOTENT, UnixHttpClient } from "../http-unix.ts";
import type { Hypervisor, Machine, MachineSnapshot } from "../ports.ts";

const MachineAnswer: z.ZodType<Machine> = z.object({
  name: z.string(),
  swarm: z.string(),
  state: z.enum(["running", "suspended", "gone"]),
  createdAtMs: z.number(),
  image: z.string().optional(),
  link: MemberLink,
});

const Console = z.object({ text: z.string() });
const Snapshot: z.ZodType<MachineSnapshot> = z.object({ file: z.string(), bytes: z.number() });

/** Every call is retried when it got no answer: changes carry operation keys, which the hypervisor executes once. */
export function netnsHypervisor(options: {
  socketPath: string;
}): Required<Omit<Hypervisor, "notices">> & { close(): Promise<void> } {
  const http = new UnixHttpClient({ socketPath: options.socketPath, name: "hypervisor" });
  const read = { timeoutMs: LIMITS.http.requestTimeoutMs, retry: RETRY_IDEMPOTENT };
  const change = { timeoutMs: LIMITS.lab.commandTimeoutMs, retry: RETRY_IDEMPOTENT };
  // A machine takes its time to boot; the answer comes when it has.
  const boot = { ...change, timeoutMs: LIMITS.lab.commandTimeoutMs + MACHINE_LIMITS.bootTimeoutMs, schema: MachineAnswer };
  const snapshot = { ...change, timeoutMs: LIMITS.lab.commandTimeoutMs + MACHINE_LIMITS.snapshotTimeoutMs };
  const path = (name: string) => `/v1/machines/${encodeURIComponent(name)}`;
  return {
    capabilities: { suspend: true },
    list: (swarm) => http.get(`/v1/machines?swarm=${encodeURIComponent(swarm)}`, { ...read, schema: z.array(MachineAnswer) }),
    launch: (request) => http.post("/v1/machines", { ...boot, body: request }),
    resume: ({ name, operation }) =>
      http.post(`${path(name)}/resume`, { ...change, schema: MachineAnswer, body: { operation } }),
    suspend: ({ name, operation }) =>
      http.post(`${path(name)}/suspend`, { ...change, schema: MachineAnswer, body: { operation } }),
    terminate: async ({ name, operation }) => {
      await http.delete(`${path(name)}?operation=${encodeURIComponent(operation)}`, change);
    },
    repair: async ({ name, operation }) => {
      await http.post(`${path(name)}/repair`, { ...change, body: { operation } });
    },
    consoleLog: async (name) => (await http.get(`${path(name)}/console`, { ...read, schema: Console })).text,
    snapshot: (name) => http.post(`${path(name)}/snapshot`, { ...snapshot, schema: Snapshot, body: {} }),
    close: () => http.close(),
  };
}
