/** What balancer and people ask of an endpoint's IPsec. No key is in any answer. */
import type { FastifyInstance } from "fastify";
import { AdoptIpsecOrder, LetGoIpsecOrder, RetireOrder, TakeOverOrder } from "../../../models/ipsec/wire.ts";
import { parseInput } from "../../../models/parse.ts";
import type { Journal } from "../journal.ts";
import type { IpsecGateway } from "./gateway.ts";
import type { Handovers } from "./handovers.ts";

export function ipsecRoutes(app: FastifyInstance, gateway: IpsecGateway, journal: Journal): void {
  const { handovers, moves } = gateway;
  app.get("/v1/ipsec", () => gateway.status());
  app.post("/v1/ipsec/take-over", async (request) => {
    const order = parseInput(TakeOverOrder, request.body, "body");
    // Counters that were skipped once must not be gone back on: an order that was carried out before a restart is not carried out again.
    let sessions = undefined as Awaited<ReturnType<Handovers["takeOver"]>> | undefined;
    await journal.once(order.operation, "take IPsec over", async () => {
      sessions = await handovers.takeOver(order);
      return sessions.filter(({ goneOn }) => goneOn > 0).length;
    });
    return { sessions: sessions ?? (await handovers.outcomesOf(order.operation)) };
  });
  // Asked again it says the same; a process after this one knows no numbers any more, and says none.
  app.post("/v1/ipsec/hand-over", (request) => handovers.handOver(parseInput(RetireOrder, request.body, "body")));
  // Asked by one operation it begins once; a process after this one begins again, which costs the client one more IKE SA.
  app.post("/v1/ipsec/adopt", async (request) => ({
    sessions: await moves.adopt(parseInput(AdoptIpsecOrder, request.body, "body")),
  }));
  app.post("/v1/ipsec/let-go", async (request) => {
    const order = parseInput(LetGoIpsecOrder, request.body, "body");
    await journal.once(order.operation, "let IPsec go", () => moves.letGo(order));
    return { ok: true };
  });
  app.post("/v1/ipsec/retire", async (request) => {
    const order = parseInput(RetireOrder, request.body, "body");
    await journal.once(order.operation, "retire IPsec", () => handovers.retire(order));
    return { ok: true };
  });
}
