/** What every hypervisor keeps to, the real one and the one in memory. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Hypervisor } from "../../../drivers/ports.ts";
import type { ForeshiftError } from "../../../models/errors.ts";

export function hypervisorContract(swarm: string, hypervisorOf: () => Hypervisor): void {
  const launch = (operation: string, suspended = false) => hypervisorOf().launch({ operation, swarm, suspended });
  const stateOf = async (name: string) => (await hypervisorOf().list(swarm)).find((machine) => machine.name === name)?.state;
  const codeIs = (code: string) => (error: ForeshiftError) => error.code === code && error.remedy !== "";

  describe("the contract of a hypervisor", () => {
    test("a machine is launched once for its key, also when asked at the same time", async () => {
      const [one, two] = await Promise.all([launch("contract/a"), launch("contract/a")]);
      assert.deepEqual(one, two);
      assert.deepEqual(await launch("contract/a"), one);
      assert.equal(one.state, "running");
      assert.equal(one.swarm, swarm);
      assert.match(one.image ?? "", /./, "it says what it boots from");
      const listed = (await hypervisorOf().list(swarm)).filter(({ name }) => name === one.name);
      assert.deepEqual(listed, [one]);
    });

    test("what a machine said is told where it is kept, and of nobody's machine nothing", async () => {
      const hypervisor = hypervisorOf();
      if (hypervisor.consoleLog === undefined) return;
      assert.equal(typeof (await hypervisor.consoleLog((await launch("contract/a")).name)), "string");
      await assert.rejects(hypervisor.consoleLog("ep-9999"), codeIs("UNKNOWN_ENDPOINT"));
    });

    test("a ghost is suspended; it is resumed and suspended once for each key", async () => {
      const hypervisor = hypervisorOf();
      const { name, state } = await launch("contract/ghost", true);
      assert.equal(state, "suspended");
      assert.equal((await hypervisor.resume({ operation: "contract/wake", name })).state, "running");
      assert.equal((await hypervisor.suspend({ operation: "contract/sleep", name })).state, "suspended");
      await hypervisor.resume({ operation: "contract/wake", name });
      assert.equal(await stateOf(name), "suspended", "a key that was executed changes nothing");
      assert.equal((await hypervisor.resume({ operation: "contract/wake-again", name })).state, "running");
    });

    test("a terminated machine is listed no more, twice is as good as once, and its launch key answers that it is gone", async () => {
      const hypervisor = hypervisorOf();
      const { name } = await launch("contract/ghost", true);
      for (const operation of ["contract/end", "contract/end", "contract/end-again"])
        await hypervisor.terminate({ operation, name });
      assert.equal(await stateOf(name), undefined);
      assert.equal((await launch("contract/ghost", true)).state, "gone");
      await assert.rejects(hypervisor.resume({ operation: "contract/late", name }), codeIs("UNKNOWN_ENDPOINT"));
    });

    test("no two machines share a name or a link, and no name comes twice", async () => {
      const hypervisor = hypervisorOf();
      const next = await launch("contract/next");
      assert.notEqual(next.name, (await launch("contract/ghost", true)).name);
      const machines = await hypervisor.list(swarm);
      for (const key of ["mac", "probeInnerAddress", "agent"] as const)
        assert.equal(new Set(machines.map(({ link }) => link[key])).size, machines.length, key);
    });

    test("a machine that is not there is refused by name; a key must say something", async () => {
      const hypervisor = hypervisorOf();
      const name = "ep-9999";
      await assert.rejects(hypervisor.resume({ operation: "contract/x1", name }), codeIs("UNKNOWN_ENDPOINT"));
      await assert.rejects(hypervisor.suspend({ operation: "contract/x2", name }), codeIs("UNKNOWN_ENDPOINT"));
      await assert.rejects(hypervisor.repair({ operation: "contract/x3", name }), codeIs("UNKNOWN_ENDPOINT"));
      await assert.rejects(launch(""), codeIs("INVALID_FIELD"));
    });
  });
}
