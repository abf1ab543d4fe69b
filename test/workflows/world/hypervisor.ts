/** The hypervisor of a world. */
import type { Hypervisor, Machine } from "../../../drivers/ports.ts";
import { ForeshiftError } from "../../../models/errors.ts";
import type { MemberLink } from "../../../models/steering.ts";
import type { Calls } from "./calls.ts";
import type { Fleet, SimulatedMachine } from "./fleet.ts";

export function simulatedHypervisor(fleet: Fleet, calls: Calls): Hypervisor {
  let swarmName = "lab";
  const change = (
    action: string,
    { operation, name }: { operation: string; name: string },
    state?: "running" | "suspended",
  ) => {
    fleet.machine(name);
    return calls
      .change(`hypervisor.${action}`, operation, () => {
        if (state !== undefined) fleet.machine(name).state = state;
      })
      .then(() => asMachine(fleet.machine(name), swarmName));
  };
  return {
    capabilities: { suspend: true },
    list: (swarm) =>
      calls.read("hypervisor.list", () => {
        swarmName = swarm;
        const there = [...fleet.machines.values()].filter((machine) => machine.state !== "gone");
        return there.map((machine) => asMachine(machine, swarm));
      }),
    launch: async ({ image, operation, swarm, suspended }) => {
      if (operation === "")
        throw new ForeshiftError("INVALID_FIELD", { field: "operation", value: "", detail: "expected a key" });
      if (image !== undefined && image === fleet.refusedImage)
        throw new ForeshiftError("INVALID_FIELD", { field: "image", value: image, detail: "nothing boots from it" });
      swarmName = swarm;
      const name = await calls.change("hypervisor.launch", operation, () => {
        fleet.launches += 1;
        return fleet.addMachine(`ep-${fleet.machines.size + 1}`, suspended ? "suspended" : "running", image).name;
      });
      const machine = fleet.machines.get(name);
      if (machine === undefined) throw new ForeshiftError("UNKNOWN_ENDPOINT", { value: name });
      return asMachine(machine, swarm);
    },
    resume: async (request) => await change("resume", request, "running"),
    suspend: async (request) => await change("suspend", request, "suspended"),
    repair: async (request) => void (await change("repair", request)),
    terminate: ({ operation, name }) =>
      calls.change("hypervisor.terminate", operation, () => {
        const machine = fleet.machines.get(name);
        if (machine === undefined || machine.state === "gone") return;
        machine.state = "gone";
        fleet.terminated.push(name);
        for (const client of fleet.clients) if (client.endpoint === name) fleet.drop(client);
        fleet.ipsec.end(name);
      }),
  };
}

function asMachine(machine: SimulatedMachine, swarm: string): Machine {
  const { name, state, createdAtMs, image } = machine;
  return { name, swarm, state, createdAtMs, image, link: linkTo(name) };
}

export function linkTo(name: string): MemberLink {
  const number = Number(name.split("-")[1]);
  const mac = `02:00:00:00:00:${number.toString(16).padStart(2, "0")}`;
  return {
    device: name,
    mac,
    returnDevice: name,
    returnMac: mac,
    probeAddress: `198.18.32.${number}`,
    probeInnerAddress: `10.67.0.${number}`,
    agent: name,
  };
}
