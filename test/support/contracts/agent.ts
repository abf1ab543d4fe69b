/** What every endpoint's agent keeps to, the real one and the one in memory. One client's session is on `from`, and ends there. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { EndpointAgent } from "../../../drivers/ports.ts";
import type { ForeshiftError } from "../../../models/errors.ts";
import { eventually } from "../eventually.ts";

const HANDSHAKE_MS = 5_000;
const SETTLE_MS = 300;

export interface AgentSubjects {
  readonly from: EndpointAgent;
  readonly to: EndpointAgent;
  readonly publicKey: string;
}

export function agentContract(subjectsOf: () => AgentSubjects): void {
  const sessionOn = async (agent: EndpointAgent) =>
    (await agent.sessions()).find(({ publicKey }) => publicKey === subjectsOf().publicKey);
  const awaitSession = (agent: EndpointAgent, sinceMs: number) =>
    eventually(
      "the session",
      async () => {
        const session = await sessionOn(agent);
        return session !== undefined && session.lastHandshakeMs >= sinceMs && session;
      },
      HANDSHAKE_MS,
    );

  describe("the contract of an agent", () => {
    test("it says who it is, that its tunnel is up, and what time it is", async () => {
      const { from, to } = subjectsOf();
      const [one, other] = await Promise.all([from.status(), to.status()]);
      assert.notEqual(one.endpoint, other.endpoint);
      assert.ok(one.tunnelUp && other.tunnelUp);
      assert.ok(Math.abs(one.clockMs - Date.now()) < 60_000);
      assert.ok(one.sessions >= 1);
      assert.equal(await from.ipsecSessions(), undefined, "it is no IPsec gateway");
    });

    test("a session is adopted by a newer handshake, and one that is here by a newer one is left alone", async () => {
      const { from, to } = subjectsOf();
      const session = await awaitSession(from, 1);
      await to.prepare({ operation: "contract/prepare", peers: [session] });
      assert.equal(await sessionOn(to), undefined, "prepared is not adopted");
      await to.adopt({ operation: "contract/adopt", sessions: [session] });
      const adopted = await awaitSession(to, session.lastHandshakeMs);
      assert.equal(adopted.endpoint, (await to.status()).endpoint);
      assert.equal(adopted.outerAddress, session.outerAddress);
      for (const operation of ["contract/adopt", "contract/adopt-again"])
        await to.adopt({ operation, sessions: [{ ...session, lastHandshakeMs: session.lastHandshakeMs - 1 }] });
      await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
      assert.equal((await sessionOn(to))?.lastHandshakeMs, adopted.lastHandshakeMs);
    });

    test("a retired session is forgotten, and forgetting it again is a success", async () => {
      const { from, publicKey } = subjectsOf();
      for (const operation of ["contract/retire", "contract/retire", "contract/retire-again"])
        await from.retire({ operation, publicKeys: [publicKey] });
      await eventually("it is forgotten", async () => (await sessionOn(from)) === undefined);
    });

    test("sessions of the future are refused: its clock is behind", async () => {
      const { from, to } = subjectsOf();
      const session = await awaitSession(to, 1);
      const ahead = { ...session, lastHandshakeMs: Date.now() + 600_000 };
      await assert.rejects(
        from.adopt({ operation: "contract/ahead", sessions: [ahead] }),
        (error: ForeshiftError) => error.code === "CLOCK_BEHIND",
      );
      assert.equal(await sessionOn(from), undefined);
    });

    test("recovered, it has called the clients that nobody else took, once for the key", async () => {
      const { to } = subjectsOf();
      const before = await awaitSession(to, 1);
      await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
      await to.recover({ operation: "contract/recover", adopts: true });
      const after = await awaitSession(to, before.lastHandshakeMs + 1);
      await to.recover({ operation: "contract/recover", adopts: true });
      assert.equal((await sessionOn(to))?.lastHandshakeMs, after.lastHandshakeMs);
      await eventually("its tunnel is up", async () => (await to.status()).tunnelUp);
    });

    test("and back it goes", async () => {
      const { from, to, publicKey } = subjectsOf();
      const session = await awaitSession(to, 1);
      await from.adopt({ operation: "contract/back", sessions: [session] });
      await awaitSession(from, session.lastHandshakeMs);
      await to.retire({ operation: "contract/back", publicKeys: [publicKey] });
      await eventually("it is forgotten", async () => (await sessionOn(to)) === undefined);
    });
  });
}
