/** The world in memory keeps what the real drivers keep: the same suites as in test/activities. */
import { before, describe } from "node:test";
import { agentContract } from "../support/contracts/agent.ts";
import { balancerContract } from "../support/contracts/balancer.ts";
import { hypervisorContract } from "../support/contracts/hypervisor.ts";
import { storeContract } from "../support/contracts/store.ts";
import { specFor } from "./support.ts";
import { World } from "./world.ts";

describe("a world in memory", () => {
  const world = new World();

  before(() => {
    for (const name of ["ep-1", "ep-2", "ep-3"]) world.addMember(name, specFor());
    world.connect("ep-1", 1);
  });

  storeContract(() => world.store);
  hypervisorContract("lab", () => world.hypervisor);
  balancerContract(() => world.balancer);
  agentContract(() => ({
    from: world.agentOf("ep-1"),
    to: world.agentOf("ep-2"),
    publicKey: world.clients[0]?.publicKey ?? "",
  }));
});
