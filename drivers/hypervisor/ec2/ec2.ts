/**
 * Machines on EC2. Tags are its memory: which swarm a machine is of, by which key it was launched, what was done to it. Every change
 * looks first, is made once for its key, and returns when EC2 shows it.
 */
import {
  CreateTagsCommand,
  EC2Client,
  GetConsoleOutputCommand,
  type Instance,
  ModifyNetworkInterfaceAttributeCommand,
  RebootInstancesCommand,
  StartInstancesCommand,
  StopInstancesCommand,
  TerminateInstancesCommand,
} from "@aws-sdk/client-ec2";
import { ForeshiftError, messageOf } from "../../../models/errors.ts";
import { CLOUD_LIMITS } from "../../../models/limits-cloud.ts";
import type { MachineNotice } from "../../../models/machine-notices.ts";
import { asked, clientOptions, withoutWaitingForRoom } from "../../aws/calls.ts";
import type { Hypervisor, Machine } from "../../ports.ts";
import { answers } from "./answers.ts";
import { Batch } from "./batch.ts";
import type { Ec2Config } from "./config.ts";
import { FleetView, type ViewOptions } from "./fleet-view.ts";
import { Launcher, type LaunchRequest } from "./launcher.ts";
import { hasBooted, hasEnded, idOf, isState, launchedAtMs, machineOf, reasonOf } from "./machine.ts";
import { noticesOf, passedChecks } from "./notices.ts";
import { hashOf, TAG, tagOf, wasDone, withDone } from "./tags.ts";

const { bootTimeoutMs, stopTimeoutMs, consistencyTimeoutMs } = CLOUD_LIMITS;

/** How and how often it looks, where that is not as usual. */
export interface Ec2Pace extends ViewOptions {
  readonly abandonedAfterMs?: number | undefined;
  /** How an agent is looked for. */
  readonly answers?: ((where: string) => Promise<boolean>) | undefined;
  readonly noticesIntervalMs?: number | undefined;
}

type Ec2Hypervisor = Hypervisor & Required<Pick<Hypervisor, "consoleLog">> & { close(): Promise<void> };

export function ec2Hypervisor(config: Ec2Config, options: Ec2Pace = {}): Ec2Hypervisor {
  const client = withoutWaitingForRoom(new EC2Client(clientOptions(config)));
  const machines = new Ec2Machines(client, config, options);
  return {
    capabilities: { suspend: true },
    list: (swarm) => machines.list(swarm),
    launch: (request) => machines.launch(request),
    resume: (request) => machines.resume(request),
    suspend: (request) => machines.suspend(request),
    terminate: (request) => machines.terminate(request),
    repair: (request) => machines.repair(request),
    consoleLog: (name) => machines.consoleLog(name),
    notices: (swarm) => machines.notices(swarm),
    close: async () => client.destroy(),
  };
}

class Ec2Machines {
  readonly #client: EC2Client;
  readonly #config: Ec2Config;
  readonly #view: FleetView;
  readonly #launcher: Launcher;
  readonly #pace: Ec2Pace;
  readonly #starts: Batch;
  readonly #terminations: Batch;
  /** Launches under way, by key; changes of one machine happen one after the other. */
  readonly #launches = new Map<string, Promise<Machine>>();
  readonly #queues = new Map<string, Promise<unknown>>();
  /** The last word of each swarm's provider, and when it was asked for. */
  readonly #notices = new Map<string, { readonly atMs: number; readonly said: Promise<readonly MachineNotice[]> }>();

  constructor(client: EC2Client, config: Ec2Config, options: Ec2Pace) {
    this.#client = client;
    this.#config = config;
    this.#view = new FleetView(client, options);
    this.#launcher = new Launcher(client, config);
    this.#pace = options;
    this.#starts = this.#batch("StartInstances", (InstanceIds) => client.send(new StartInstancesCommand({ InstanceIds })));
    this.#terminations = this.#batch("TerminateInstances", (InstanceIds) =>
      client.send(new TerminateInstancesCommand({ InstanceIds })),
    );
  }

  /** One that boots is none yet. */
  async list(swarm: string): Promise<readonly Machine[]> {
    const instances = await this.#view.instances(swarm);
    return instances
      .filter((instance) => !hasEnded(instance) && hasBooted(instance))
      .map((instance) => machineOf(instance, this.#config));
  }

  async launch(request: LaunchRequest): Promise<Machine> {
    checkKey(request.operation);
    checkImage(request.image);
    const known = this.#launches.get(request.operation);
    if (known !== undefined) return await known;
    const launch = this.#launch(request).finally(() => this.#launches.delete(request.operation));
    this.#launches.set(request.operation, launch);
    return await launch;
  }

  async resume({ operation, name }: { operation: string; name: string }): Promise<Machine> {
    return await this.#change(operation, name, (instance) => this.#start(instance));
  }

  async suspend({ operation, name }: { operation: string; name: string }): Promise<Machine> {
    return await this.#change(operation, name, (instance) => this.#stop(instance));
  }

  /** What can be done from outside: its links take foreign addresses again, and it starts anew. */
  async repair({ operation, name }: { operation: string; name: string }): Promise<void> {
    await this.#change(operation, name, async (instance) => {
      await this.#openLinks(instance);
      if (!isState(instance, "running")) return await this.#start(instance);
      const InstanceIds = [idOf(instance)];
      await this.#ask("RebootInstances", () => this.#client.send(new RebootInstancesCommand({ InstanceIds })));
    });
  }

  async terminate({ operation, name }: { operation: string; name: string }): Promise<void> {
    checkKey(operation);
    const swarm = await this.#view.swarmOf(name).catch((thrown: unknown) => {
      if (thrown instanceof ForeshiftError && thrown.code === "UNKNOWN_ENDPOINT") return undefined;
      throw thrown;
    });
    if (swarm === undefined) return;
    const found = (await this.#view.instances(swarm)).find((instance) => idOf(instance) === name);
    if (found === undefined || hasEnded(found)) return;
    await this.#end(swarm, name);
  }

  /** As much as EC2 keeps (64 KiB), as of some moments ago; empty of a machine that has only just begun. */
  async consoleLog(name: string): Promise<string> {
    await this.#view.swarmOf(name);
    const ask = () => this.#client.send(new GetConsoleOutputCommand({ InstanceId: name }));
    const { Output = "" } = await asked(`GetConsoleOutput of ${name}`, ask);
    return Buffer.from(Output, "base64").toString("utf8");
  }

  async notices(swarm: string): Promise<readonly MachineNotice[]> {
    const held = this.#notices.get(swarm);
    const intervalMs = this.#pace.noticesIntervalMs ?? CLOUD_LIMITS.noticesIntervalMs;
    if (held !== undefined && performance.now() - held.atMs < intervalMs) return await held.said;
    const said = this.#view.instances(swarm).then((instances) => noticesOf(this.#client, instances));
    this.#notices.set(swarm, { atMs: performance.now(), said });
    return await said;
  }

  async #launch(request: LaunchRequest): Promise<Machine> {
    const { swarm, operation } = request;
    const key = hashOf(operation);
    const ofKey = (all: readonly Instance[]) => all.filter((instance) => tagOf(instance, TAG.launch) === key);
    const known = await this.#view.instances(swarm);
    const mine = ofKey(known);
    const gone = mine.find((instance) => hasEnded(instance) && hasBooted(instance));
    const found = keeper(mine);
    if (found !== undefined) return await this.#bring(request, idOf(found));
    if (gone !== undefined) return machineOf(gone, this.#config);
    await this.#endAbandoned(swarm, known);
    const wait = { what: `the launch ${operation}`, timeoutMs: consistencyTimeoutMs };
    const other = () => this.#view.until(swarm, (all) => keeper(ofKey(all)), wait).then(idOf, () => undefined);
    const id = await this.#launcher.run(request, known, mine.length, other);
    this.#view.changed();
    return await this.#bring(request, id);
  }

  /** What a launch left that was given up on: it is no machine of the swarm, and costs as much as one. */
  async #endAbandoned(swarm: string, known: readonly Instance[]): Promise<void> {
    const untilMs = Date.now() - (this.#pace.abandonedAfterMs ?? CLOUD_LIMITS.abandonedAfterMs);
    const abandoned = known.filter((one) => !hasEnded(one) && !hasBooted(one) && launchedAtMs(one) <= untilMs);
    // A launch is not to fail for what another one left.
    await Promise.allSettled(abandoned.map((one) => this.#end(swarm, idOf(one))));
  }

  /** From its launch to a machine of the swarm. */
  async #bring({ operation, swarm, suspended }: LaunchRequest, id: string): Promise<Machine> {
    const launch = hashOf(operation);
    const seen = await this.#seen(swarm, id);
    if (hasBooted(seen)) return machineOf(seen, this.#config);
    await this.#openLinks(seen);
    if (!isState(seen, "stopping") && !isState(seen, "stopped")) await this.#booted(swarm, id);
    if (suspended) await this.#stop(seen);
    await this.#tag(id, { Key: TAG.booted, Value: new Date().toISOString() });
    const all = await this.#view.until(
      swarm,
      (instances) => (instances.some((one) => idOf(one) === id && hasBooted(one)) ? instances : undefined),
      {
        what: `the tags of ${id}`,
        timeoutMs: consistencyTimeoutMs,
      },
    );
    const twins = all.filter((one) => tagOf(one, TAG.launch) === launch && !hasEnded(one));
    const kept = keeper(twins) ?? seen;
    // Launched twice for one key, by two who could not see each other: both keep the same one.
    for (const twin of twins) if (idOf(twin) !== idOf(kept)) await this.#end(swarm, idOf(twin));
    if (idOf(kept) !== id) return await this.#bring({ operation, swarm, suspended }, idOf(kept));
    return machineOf(all.find((one) => idOf(one) === id) ?? seen, this.#config);
  }

  async #booted(swarm: string, id: string): Promise<void> {
    const seen = await this.#until(swarm, id, "running", bootTimeoutMs);
    const { booted } = this.#config;
    if (booted === "running") return;
    const { agent } = machineOf(seen, this.#config).link;
    const look = booted === "agent" ? () => (this.#pace.answers ?? answers)(agent) : () => passedChecks(this.#client, id);
    const what = booted === "agent" ? `the agent of ${id} at ${agent}` : `the status checks of ${id}`;
    try {
      await this.#view.wait(async () => (await look()) || undefined, { what, timeoutMs: bootTimeoutMs });
    } catch (thrown) {
      const last = (await this.consoleLog(id).catch(() => "")).trim().split("\n").at(-1);
      const detail = `${messageOf(thrown)}; the last word on its console: ${last}`;
      throw new ForeshiftError("NOT_READY", { value: id, detail }, { cause: thrown });
    }
  }

  /** As EC2 shows it; a machine that was just launched may not be shown for a while. */
  async #seen(swarm: string, id: string): Promise<Instance> {
    const found = await this.#view.until(swarm, (all) => all.find((one) => idOf(one) === id), {
      what: id,
      timeoutMs: consistencyTimeoutMs,
    });
    return living(found);
  }

  /** An endpoint receives and sends packets of addresses that are not its own: the VIP, and its clients'. */
  async #openLinks(instance: Instance): Promise<void> {
    for (const { NetworkInterfaceId, SourceDestCheck } of instance.NetworkInterfaces ?? []) {
      if (NetworkInterfaceId === undefined || SourceDestCheck === false) continue;
      const change = { NetworkInterfaceId, SourceDestCheck: { Value: false } };
      await this.#ask("ModifyNetworkInterfaceAttribute", () =>
        this.#client.send(new ModifyNetworkInterfaceAttributeCommand(change)),
      );
    }
  }

  async #start(instance: Instance): Promise<void> {
    const [id, swarm] = [idOf(instance), tagOf(instance, TAG.swarm) ?? ""];
    if (isState(instance, "stopping")) await this.#until(swarm, id, "stopped", stopTimeoutMs);
    if (!isState(instance, "running") && !isState(instance, "pending")) await this.#starts.add(id);
    await this.#booted(swarm, id);
  }

  async #stop(instance: Instance): Promise<void> {
    const [id, swarm] = [idOf(instance), tagOf(instance, TAG.swarm) ?? ""];
    if (!isState(instance, "stopping") && !isState(instance, "stopped")) {
      const Hibernate = this.#config.ghosts === "hibernate" && instance.HibernationOptions?.Configured === true;
      await this.#ask(`StopInstances of ${id}`, () =>
        this.#client.send(new StopInstancesCommand({ InstanceIds: [id], ...(Hibernate ? { Hibernate } : {}) })),
      );
    }
    await this.#until(swarm, id, "stopped", stopTimeoutMs);
  }

  async #end(swarm: string, id: string): Promise<void> {
    await this.#terminations.add(id);
    await this.#view.until(swarm, (all) => all.every((one) => idOf(one) !== id || hasEnded(one)) || undefined, {
      what: `the end of ${id}`,
      timeoutMs: consistencyTimeoutMs,
    });
  }

  async #until(swarm: string, id: string, state: "running" | "stopped", timeoutMs: number): Promise<Instance> {
    const inState = (all: readonly Instance[]) => {
      const found = all.find((one) => idOf(one) === id);
      return found !== undefined && isState(living(found), state) ? found : undefined;
    };
    return await this.#view.until(swarm, inState, { what: `${id}, which is to be ${state}`, timeoutMs });
  }

  async #change(operation: string, name: string, make: (instance: Instance) => Promise<void>): Promise<Machine> {
    checkKey(operation);
    const turn = (this.#queues.get(name) ?? Promise.resolve()).then(() => this.#changeAlone(operation, name, make));
    const settled = turn.catch(() => undefined);
    this.#queues.set(name, settled);
    return await turn.finally(() => {
      if (this.#queues.get(name) === settled) this.#queues.delete(name);
    });
  }

  async #changeAlone(operation: string, name: string, make: (instance: Instance) => Promise<void>): Promise<Machine> {
    const swarm = await this.#view.swarmOf(name);
    const found = (await this.#view.instances(swarm)).find((one) => idOf(one) === name);
    if (found === undefined || hasEnded(found)) throw new ForeshiftError("UNKNOWN_ENDPOINT", { value: name });
    if (wasDone(found, operation)) return machineOf(found, this.#config);
    await make(found);
    await this.#tag(name, withDone(found, operation));
    const after = (all: readonly Instance[]) =>
      all.find((one) => idOf(one) === name && (wasDone(one, operation) || hasEnded(one)));
    const shown = await this.#view.until(swarm, after, { what: `the tags of ${name}`, timeoutMs: consistencyTimeoutMs });
    return machineOf(living(shown), this.#config);
  }

  async #tag(id: string, tag: { Key: string; Value: string }): Promise<void> {
    await this.#ask("CreateTags", () => this.#client.send(new CreateTagsCommand({ Resources: [id], Tags: [tag] })));
  }

  async #ask(what: string, call: () => Promise<unknown>): Promise<void> {
    await asked(what, call).finally(() => this.#view.changed());
  }

  #batch(what: string, call: (ids: string[]) => Promise<unknown>): Batch {
    return new Batch((ids) => this.#ask(`${what} of ${ids.join(", ")}`, () => call(ids)));
  }
}

/** Of several living instances of one launch the one that all agree on, whenever they look: the first, by what never changes. */
function keeper(instances: readonly Instance[]): Instance | undefined {
  const order = (a: Instance, b: Instance) => launchedAtMs(a) - launchedAtMs(b) || (idOf(a) < idOf(b) ? -1 : 1);
  return instances.filter((one) => !hasEnded(one)).toSorted(order)[0];
}

/** CLOUD_FAILED with EC2's reason when it has ended. */
function living(instance: Instance): Instance {
  if (!hasEnded(instance)) return instance;
  throw new ForeshiftError("CLOUD_FAILED", { value: idOf(instance), detail: `it ended: ${reasonOf(instance)}` });
}

function checkKey(operation: string): void {
  if (operation === "") throw new ForeshiftError("INVALID_FIELD", { field: "operation", value: "", detail: "expected a key" });
}

function checkImage(image: string | undefined): void {
  if (image === undefined || /^ami-[0-9a-f]+$/.test(image)) return;
  throw new ForeshiftError("INVALID_FIELD", { field: "image", value: image, detail: "expected an AMI: ami-…" });
}
