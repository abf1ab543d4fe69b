/** What every store keeps to, the real one and the one in memory. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { AuditEntry, Store } from "../../../drivers/ports.ts";
import { specOf } from "../../unit/fixtures.ts";

export function storeContract(storeOf: () => Store): void {
  const entry = (change: Partial<AuditEntry>): AuditEntry => ({
    operation: "contract:1",
    swarm: "contract",
    endpoint: "ep-1",
    action: "pin sessions",
    outcome: "done",
    text: "3 sessions pinned",
    workflowId: "drain/contract/ep-1",
    runId: "r",
    details: { sessions: 3, list: ["a"] },
    ...change,
  });

  describe("the contract of a store", () => {
    test("an audit row is written once for its operation and action, and read as it was written", async () => {
      const store = storeOf();
      await store.audit(entry({}));
      await store.audit(entry({ text: "again" }));
      await store.audit(entry({ action: "unpin sessions", endpoint: undefined, workflowId: undefined, runId: undefined }));
      const rows = await store.auditTrail({ swarm: "contract", limit: 10 });
      assert.equal(rows.length, 2);
      assert.deepEqual({ ...rows[0], seq: 0, atMs: 0 }, { ...entry({}), seq: 0, atMs: 0 });
      assert.ok((rows[1]?.seq ?? 0) > (rows[0]?.seq ?? 0));
      assert.ok(Math.abs((rows[0]?.atMs ?? 0) - Date.now()) < 60_000);
    });

    test("the trail is oldest first: the latest rows, or those after a number, of one swarm, endpoint or run", async () => {
      const store = storeOf();
      for (let n = 1; n <= 5; n += 1)
        await store.audit(entry({ operation: `trail:${n}`, swarm: "trail", endpoint: `ep-${n % 2}`, workflowId: `w-${n}` }));
      const trail = async (query: Parameters<Store["auditTrail"]>[0]) =>
        (await store.auditTrail({ swarm: "trail", ...query }))
          .map(({ operation }) => operation.slice("trail:".length))
          .join("");
      assert.equal(await trail({ limit: 10 }), "12345");
      assert.equal(await trail({ limit: 2 }), "45");
      assert.equal(await trail({ limit: 10, endpoint: "ep-1" }), "135");
      assert.equal(await trail({ limit: 10, workflowId: "w-4" }), "4");
      const second = (await store.auditTrail({ swarm: "trail", limit: 10 }))[1]?.seq ?? 0;
      assert.equal(await trail({ limit: 2, afterSeq: second }), "34");
      assert.equal(await trail({ limit: 2, swarm: "nowhere" }), "");
    });

    test("a switch keeps its first reason until it is off, and off twice is off", async () => {
      const store = storeOf();
      await store.setStopSwitch({ scope: "contract", on: true, by: "ada", reason: "first" });
      await store.setStopSwitch({ scope: "contract", on: true, by: "bob", reason: "second" });
      await store.setStopSwitch({ scope: "*", on: true, by: "bob", reason: "all" });
      const on = (await store.stopSwitches()).map(({ scope, by, reason }) => `${scope} ${by} ${reason}`);
      assert.deepEqual(on.toSorted(), ["* bob all", "contract ada first"]);
      for (const scope of ["contract", "contract", "*"]) await store.setStopSwitch({ scope, on: false, by: "ada", reason: "" });
      assert.deepEqual(await store.stopSwitches(), []);
    });

    test("the last file of a swarm stands, and swarms are listed by name", async () => {
      const store = storeOf();
      const spec = specOf();
      await store.saveSpec({ ...spec, name: "zeta" });
      await store.saveSpec({ ...spec, name: "alpha" });
      await store.saveSpec({ ...spec, name: "zeta", recoverInPlace: false });
      const kept = (await store.specs()).filter(({ name }) => name === "alpha" || name === "zeta");
      assert.deepEqual(
        kept.map(({ name, recoverInPlace }) => [name, recoverInPlace]),
        [
          ["alpha", true],
          ["zeta", false],
        ],
      );
    });

    test("a page asked for twice is a success", async () => {
      const store = storeOf();
      const page = { operation: "contract:page", swarm: "contract", subject: "s", text: "t" };
      await store.page(page);
      await store.page(page);
    });
  });
}
