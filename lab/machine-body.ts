/**
 * What a machine of the lab is made of: namespaces and processes of this machine, or a virtual machine. Both hang on the same three
 * links and are reached by the same agent's socket.
 */
import type { MachineSnapshot } from "../drivers/ports.ts";
import type { Adoption } from "../drivers/qemu/virtual-machine.ts";
import type { LabConfig } from "./config.ts";

export interface BodyRequest {
  readonly name: string;
  readonly number: number;
  readonly zone: string;
  /** What it boots from; undefined: the lab's own. */
  readonly image: string | undefined;
  readonly config: LabConfig;
  /** Where the agent is to be reached here. */
  readonly agentSocket: string;
  /** Folder of the machine alone. */
  readonly stateDir: string;
  /** Of its agent's login at Vault, delivered before it boots. */
  readonly credentialsFile: string;
}

export interface MachineBody {
  /** By which another process can adopt it after this one; undefined of a body that ends with this process. */
  readonly adoption?: Adoption;
  /** It serves from here on. */
  booted?(): void;
  /** Stands still, memory kept. */
  suspend(): Promise<void>;
  /** Goes on where it stood, with the right time. */
  resume(): Promise<void>;
  repairLinks(): Promise<void>;
  /** Lets a machine that was frozen from outside go on; one that runs is left as it is. */
  unfreeze(): Promise<void>;
  /** The newest of what it said. */
  consoleLog(): Promise<string>;
  /** Keeps what it holds in memory in its folder; absent of a body that cannot. */
  snapshot?(): Promise<MachineSnapshot>;
  /** Ends the agent for good, or lets it live again. */
  keepAgent(alive: boolean): Promise<void>;
  end(): Promise<void>;
}

/** A body that fails to boot leaves nothing. */
export async function bootOrEnd<B extends MachineBody>(body: B, boot: () => Promise<void>): Promise<B> {
  try {
    await boot();
    return body;
  } catch (thrown) {
    await body.end();
    throw thrown;
  }
}
