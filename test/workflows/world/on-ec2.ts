/**
 * A world whose machines are instances of EC2: every order goes to the real driver first, and the world's machine of that name follows.
 * What runs on them, balancer and agents, stays in memory.
 */
import type { EndpointAgent, Hypervisor, Machine } from "../../../drivers/ports.ts";
import type { SwarmSpec } from "../../../models/swarm-spec.ts";
import { World } from "../world.ts";

export class WorldOnEc2 extends World {
  override readonly hypervisor: Hypervisor;
  /** Agents are known by where they listen. */
  readonly #names = new Map<string, string>();
  readonly #ec2: Hypervisor;

  constructor(ec2: Hypervisor) {
    super();
    this.#ec2 = ec2;
    this.hypervisor = {
      ...ec2,
      launch: async (request) => this.#follow(await ec2.launch(request)),
      resume: async (request) => this.#follow(await ec2.resume(request)),
      suspend: async (request) => this.#follow(await ec2.suspend(request)),
      terminate: async (request) => {
        await ec2.terminate(request);
        this.machine(request.name).state = "gone";
      },
    };
  }

  /** Members of the balancer with full weight, and a ghost; answers their names, the ghost's last. */
  async populate(spec: SwarmSpec, members: number): Promise<readonly string[]> {
    const { name: swarm } = spec;
    const launch = (number: number, suspended: boolean) =>
      this.hypervisor.launch({ operation: `${swarm}/populate/${number}`, swarm, suspended });
    const machines = await Promise.all(Array.from({ length: members + 1 }, (_, number) => launch(number, number === members)));
    const serving = machines.slice(0, members);
    for (const { name } of serving) this.addMember(name, spec);
    const held = this.steering;
    if (held === undefined) throw new Error("a world without members");
    const all = serving.map(({ name, link }) => ({ endpoint: name, weight: 100, draining: false, link }));
    await this.balancer.apply({ ...held, operation: `${swarm}/populate`, epoch: held.epoch + 1, members: all });
    return machines.map(({ name }) => name);
  }

  /** Somebody else ended it, and the reflex found out. */
  async vanish(name: string): Promise<void> {
    await this.#ec2.terminate({ operation: `vanish/${name}`, name });
    this.crash(name);
  }

  override agentOf(address: string): EndpointAgent {
    return super.agentOf(this.#names.get(address) ?? address);
  }

  #follow(machine: Machine): Machine {
    const { name, state, link } = machine;
    this.#names.set(link.agent, name);
    if (state === "gone") return machine;
    if (this.machines.has(name)) this.machine(name).state = state;
    else this.addMachine(name, state);
    return machine;
  }
}
