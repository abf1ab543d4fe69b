/** How long is waited for machines, by how their processors run: an emulated one needs seconds for what another does in milliseconds. */
import { LIMITS } from "./limits.ts";
import { EMULATED_LIMITS } from "./limits-machines.ts";

/** `own`: processes or KVM run on the machine's processors; `emulated`: QEMU makes them up (TCG). */
export const PROCESSORS = ["own", "emulated"] as const;
export type Processors = (typeof PROCESSORS)[number];

export interface Patience {
  /** From the swarm file to every endpoint serving. */
  readonly swarmReadyTimeoutMs: number;
  /** Of one phase of the lab's story, or of a trial. */
  readonly phaseTimeoutMs: number;
  /** Of a connection with certificates, to one of them or from it. */
  readonly handshakeTimeoutMs: number;
}

export function patienceWith(processors: Processors): Patience {
  if (processors === "emulated") return EMULATED_LIMITS;
  return {
    swarmReadyTimeoutMs: LIMITS.lab.swarmReadyTimeoutMs,
    phaseTimeoutMs: LIMITS.story.phaseTimeoutMs,
    handshakeTimeoutMs: LIMITS.http.connectTimeoutMs,
  };
}
