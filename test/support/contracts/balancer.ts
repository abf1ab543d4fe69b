/** What every balancer keeps to, the real one and the one in memory. It must hold a desired state with two members at least. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Balancer } from "../../../drivers/ports.ts";
import type { ForeshiftError } from "../../../models/errors.ts";
import type { SteeringState } from "../../../models/steering.ts";

export function balancerContract(balancerOf: () => Balancer): void {
  let operations = 0;
  const held = async (): Promise<SteeringState> => {
    const desired = await balancerOf().desired();
    assert.ok(desired !== undefined && desired.members.length >= 2);
    return desired;
  };
  const apply = (state: SteeringState) => {
    operations += 1;
    return balancerOf().apply({ ...state, operation: `contract/${process.pid}/${operations}` });
  };
  const refused = (code: string, field?: string) => (error: ForeshiftError) =>
    error.code === code && (field === undefined || (error.field ?? "").endsWith(field));

  describe("the contract of a balancer", () => {
    test("what was applied is desired, a higher epoch each time; health tells of each member", async () => {
      const before = await held();
      const [first] = before.members;
      assert.ok(first !== undefined);
      const lowered = { ...first, weight: 50, draining: true };
      const wanted = { ...before, epoch: before.epoch + 1, members: [lowered, ...before.members.slice(1)] };
      await apply(wanted);
      assert.deepEqual(await held(), wanted);
      const health = (await balancerOf().health()).find(({ endpoint }) => endpoint === first.endpoint);
      assert.deepEqual([health?.weight, health?.draining], [50, true]);
      await apply({ ...before, epoch: wanted.epoch + 1 });
      assert.equal((await balancerOf().health()).length, before.members.length);
    });

    test("an epoch that is not newer is refused, and a key that was carried out is not carried out again", async () => {
      const before = await held();
      await assert.rejects(apply(before), refused("STALE_EPOCH"));
      const wanted = { ...before, epoch: before.epoch + 5, operation: `contract/${process.pid}/once` };
      await balancerOf().apply(wanted);
      await balancerOf().apply(wanted);
      await balancerOf().apply({ ...wanted, epoch: wanted.epoch + 1, members: wanted.members.slice(1) });
      assert.deepEqual(await held(), { ...before, epoch: before.epoch + 5 });
    });

    test("a wrong state is refused by field, and changes nothing", async () => {
      const before = await held();
      const [first] = before.members;
      assert.ok(first !== undefined);
      const put = (change: Partial<SteeringState>) => apply({ ...before, epoch: before.epoch + 1, ...change });
      await assert.rejects(put({ members: [{ ...first, weight: 101 }] }), refused("INVALID_FIELD", "members.0.weight"));
      await assert.rejects(put({ members: [first, first] }), refused("DUPLICATE_NAME"));
      const stray = { client: "198.18.101.2:1", endpoint: "ep-999" };
      await assert.rejects(put({ pins: [stray] }), refused("UNKNOWN_ENDPOINT", "pins.0.endpoint"));
      const nowhere = { client: "198.18.101.2:0", endpoint: first.endpoint };
      await assert.rejects(put({ pins: [nowhere] }), refused("INVALID_FIELD", "pins.0.client"));
      const route = { innerAddress: "10.66.200.1", endpoint: "ep-999" };
      await assert.rejects(put({ returnRoutes: [route] }), refused("UNKNOWN_ENDPOINT", "returnRoutes.0.endpoint"));
      assert.deepEqual(await held(), before);
    });

    test("events have numbers that grow, are read after a number, and tell of what was applied", async () => {
      const before = await balancerOf().events({ after: 0, waitMs: 0 });
      const last = before.at(-1)?.seq ?? 0;
      const state = await held();
      await apply({ ...state, epoch: state.epoch + 1 });
      const news = await balancerOf().events({ after: last, waitMs: 1_000 });
      assert.ok(news.some(({ kind }) => kind === "desired-applied"));
      assert.ok(news.every(({ seq }, at) => seq > (news[at - 1]?.seq ?? last)));
    });
  });
}
