/**
 * What every API with certificates answers about its own, and has it replaced: for rotations.
 */
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import type { ProcessIdentity } from "../drivers/identity/process-identity.ts";
import type { Identity } from "../models/identity.ts";
import { parseInput } from "../models/parse.ts";
import { demand } from "./tls-gate.ts";

const RenewBody = z.strictObject({ after: z.string().regex(/^[0-9A-F]{2,40}$/) });

const isControl = (peer: Identity) => peer.kind === "process" && peer.process === "control";

/** `peers`: serials of the certificates whose connections are open here. */
export function certificateRoutes(app: FastifyInstance, identity: ProcessIdentity): void {
  app.get("/v1/certificate", (request) => {
    demand(request, "ask for its certificate", (peer) => peer.kind === "process");
    const { notAfterMs, serial } = identity.certificate;
    return { uri: identity.uri, serial, notAfterMs, peers: identity.crl.serialsInUse() };
  });
  app.post("/v1/certificate/renew", async (request) => {
    demand(request, "have a certificate replaced", isControl);
    const { after } = parseInput(RenewBody, request.body, "body");
    return { serial: await identity.renewAfter(after) };
  });
}
