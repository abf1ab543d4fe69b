/**
 * The lab's HTTP API: the hypervisor's part, and the lab's own (faults, traffic, roaming, what was done).
 */
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { ImageName } from "../models/image.ts";
import { LIMITS } from "../models/limits.ts";
import { parseInput } from "../models/parse.ts";
import { EndpointName, SwarmName } from "../models/steering.ts";
import { ActivateBody, type ClientKeys, DistributeBody, OrderBody } from "./client-keys.ts";
import { type Clients, SESSIONS_PER_HOST_MAX } from "./clients.ts";
import type { LabConfig } from "./config.ts";
import type { Faults } from "./faults.ts";
import type { Growth } from "./growth.ts";
import type { Journal } from "./journal.ts";
import { FAULT_KINDS, type LabDescription } from "./lab-client.ts";
import type { Machines } from "./machines.ts";
import type { Traffic } from "./traffic.ts";

export interface LabParts {
  readonly config: LabConfig;
  readonly clients: Clients;
  readonly machines: Machines;
  readonly faults: Faults;
  readonly clientKeys: ClientKeys;
  readonly growth: Growth;
  readonly traffic: Traffic;
  readonly journal: Journal;
}

const Operation = z.string().min(1).max(300);
const Change = z.strictObject({ operation: Operation });
const Launch = z.strictObject({ operation: Operation, swarm: SwarmName, suspended: z.boolean(), image: ImageName.optional() });
const MachineName = z.object({ name: EndpointName });
const Injection = z.strictObject({
  kind: z.enum(FAULT_KINDS),
  endpoint: EndpointName,
  seconds: z.number().positive().max(LIMITS.lab.faultSecondsMax).optional(),
  buildUpSeconds: z.number().positive().max(LIMITS.lab.faultSecondsMax).optional(),
});

export function labRoutes(app: FastifyInstance, parts: LabParts): void {
  hypervisorRoutes(app, parts.machines);
  faultRoutes(app, parts.faults);
  growthRoutes(app, parts.growth);
  trafficRoutes(app, parts);
  keyRoutes(app, parts.clientKeys);
  app.get("/v1/journal", () => parts.journal.entries);
}

function hypervisorRoutes(app: FastifyInstance, machines: Machines): void {
  app.get("/v1/machines", (request) => {
    const { swarm } = parseInput(z.object({ swarm: SwarmName }), request.query, "query");
    return machines.list(swarm);
  });
  app.post("/v1/machines", (request) => machines.launch(parseInput(Launch, request.body, "body")));
  const change = (action: "resume" | "suspend" | "repair") => {
    app.post(`/v1/machines/:name/${action}`, async (request) => {
      const { name } = parseInput(MachineName, request.params, "path");
      const { operation } = parseInput(Change, request.body, "body");
      return (await machines[action]({ operation, name })) ?? null;
    });
  };
  change("resume");
  change("suspend");
  change("repair");
  app.get("/v1/machines/:name/console", async (request) => {
    const { name } = parseInput(MachineName, request.params, "path");
    return { text: await machines.consoleLog(name) };
  });
  app.post("/v1/machines/:name/snapshot", (request) => machines.snapshot(parseInput(MachineName, request.params, "path").name));
  app.delete("/v1/machines/:name", async (request, reply) => {
    const { name } = parseInput(MachineName, request.params, "path");
    const { operation } = parseInput(Change, request.query, "query");
    await machines.terminate({ operation, name });
    return reply.code(204).send();
  });
}

function faultRoutes(app: FastifyInstance, faults: Faults): void {
  app.get("/v1/faults", () => faults.list());
  app.post("/v1/faults", (request) => faults.inject(parseInput(Injection, request.body, "body")));
  app.delete("/v1/faults/:name", async (request, reply) => {
    const { name } = parseInput(MachineName, request.params, "path");
    await faults.heal(name);
    return reply.code(204).send();
  });
}

function growthRoutes(app: FastifyInstance, growth: Growth): void {
  const Request = z.strictObject({
    sessions: z.number().int().positive().max(SESSIONS_PER_HOST_MAX),
    seconds: z.number().nonnegative().max(LIMITS.lab.faultSecondsMax),
  });
  app.post("/v1/growth", (request) => growth.begin(parseInput(Request, request.body, "body")));
  app.delete("/v1/growth", async (_, reply) => {
    await growth.end();
    return reply.code(204).send();
  });
}

function trafficRoutes(app: FastifyInstance, { config, clients, traffic }: LabParts): void {
  app.get("/v1/lab", (): LabDescription => {
    const { v4, v6, port } = config.vip;
    const peers = [...clients.list, ...(clients.spare === undefined ? [] : [clients.spare])].flatMap(({ sessions }) =>
      sessions.map(({ peer }) => peer),
    );
    return { vip: { v4, ...(v6 === undefined ? {} : { v6 }), port }, peers };
  });
  app.get("/v1/traffic", () => traffic.report());
  app.post("/v1/traffic/reset", async (_, reply) => {
    await traffic.reset();
    return reply.code(204).send();
  });
  app.post("/v1/clients/:name/roam", (request) => {
    const { name } = parseInput(z.object({ name: z.string().min(1).max(64) }), request.params, "path");
    return clients.roam(name);
  });
}

function keyRoutes(app: FastifyInstance, clientKeys: ClientKeys): void {
  app.post("/v1/clients/identity/:action", (request) => {
    const { action } = parseInput(z.object({ action: z.enum(["bring", "use", "drop"]) }), request.params, "path");
    return clientKeys.order(action, parseInput(OrderBody, request.body, "body"));
  });
  app.post("/v1/clients/keys/distribute", (request) =>
    clientKeys.distribute(parseInput(DistributeBody, request.body, "body").keys),
  );
  app.post("/v1/clients/keys/activate", (request) => {
    const { keys, handshake } = parseInput(ActivateBody, request.body, "body");
    return clientKeys.activate(keys, handshake);
  });
}
