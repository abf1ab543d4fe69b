/**
 * A control worker in a process of its own over a world in another: `world-worker.ts SOCKET TEMPORAL-ADDRESS BUNDLE`.
 */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { pino } from "pino";
import { createActivities } from "../../activities/index.ts";
import { createStopGuard } from "../../activities/stop-guard.ts";
import type { AgentLogins, Certificates, ClientProvisioner, KeyVault, PayloadKeys } from "../../drivers/key-ports.ts";
import type { Balancer, EndpointAgent, Hypervisor, Store, Telemetry } from "../../drivers/ports.ts";
import { PLAIN_PAYLOADS } from "../../drivers/temporal-codec/codec.ts";
import { ForeshiftError } from "../../models/errors.ts";
import { startWorkerSet } from "../../workers/control/worker-set.ts";
import { NO_MODELS } from "./world/models.ts";

interface Reply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: unknown;
}

/** Killed ones are many, and nobody else takes their runs' next steps before. One that is late in it has the history replayed, no more. */
const STICKY_TIMEOUT_MS = 500;

const [socketPath = "", address = "", codePath = ""] = process.argv.slice(2);
const socket = connect(socketPath);
socket.on("close", () => process.exit(0));
socket.on("error", () => process.exit(1));
const waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>();
let calls = 0;

createInterface({ input: socket }).on("line", (line) => {
  const { id, result, error } = JSON.parse(line) as Reply;
  const call = waiting.get(id);
  waiting.delete(id);
  if (error === undefined) call?.resolve(result);
  else call?.reject(ForeshiftError.fromBody(error));
});

function call(port: string, method: string, args: readonly unknown[]): Promise<unknown> {
  calls += 1;
  const id = calls;
  socket.write(`${JSON.stringify({ id, port, method, args })}\n`);
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

/** A port whose every method is a call to the world. */
function remote<T extends object>(port: string, first: readonly unknown[] = []): T {
  const target = {} as T;
  return new Proxy(target, {
    get: (_, method) =>
      method === "then"
        ? undefined
        : (...args: unknown[]) => call(port, String(method), [...first, ...args.map(withoutSignal)]),
  });
}

function withoutSignal(arg: unknown): unknown {
  return typeof arg === "object" && arg !== null ? { ...arg, signal: undefined } : arg;
}

const store = remote<Store>("store");
await startWorkerSet({
  connection: { address },
  namespace: "default",
  activities: createActivities({
    store,
    hypervisor: remote<Hypervisor>("hypervisor"),
    balancer: remote<Balancer>("balancer"),
    telemetry: remote<Telemetry>("telemetry"),
    models: NO_MODELS,
    keyVault: remote<KeyVault>("keyVault"),
    provisioner: remote<ClientProvisioner>("provisioner"),
    certificates: remote<Certificates>("certificates"),
    agentLogins: remote<AgentLogins>("agentLogins"),
    // Nothing that is told here rotates certificates.
    holders: { processes: [], agent: () => assert.fail("no holder is asked for") },
    payloadKeys: remote<PayloadKeys>("payloadKeys"),
    agentOf: (link) => remote<EndpointAgent>("agent", [link.agent]),
    stopGuard: createStopGuard(store),
  }),
  sealing: PLAIN_PAYLOADS,
  bundle: { codePath },
  stickyTimeoutMs: STICKY_TIMEOUT_MS,
  log: pino({ level: "error" }, pino.destination(2)),
});
