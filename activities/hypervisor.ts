/**
 * Steps on machines.
 */
import { ForeshiftError } from "../models/errors.ts";
import { type ActivityDeps, asStep, type StepInput } from "./deps.ts";

export function hypervisorActivities(deps: ActivityDeps) {
  return {
    /** Answers the machine's name. */
    launchMachine(input: StepInput & { suspended: boolean; image?: string | undefined }): Promise<string> {
      return asStep(deps, input, input.suspended ? "launch a ghost" : "launch a machine", async () => {
        const { image, operation, swarm, suspended } = input;
        const from = image === undefined ? {} : { image };
        const machine = await deps.hypervisor.launch({ operation, swarm, suspended, ...from });
        if (machine.state === "gone") {
          throw new ForeshiftError("NO_REPLACEMENT", { value: machine.name, detail: "it was launched and has ended since" });
        }
        const what = machine.image === undefined ? "" : ` from ${machine.image}`;
        const text = `${machine.name} has booted${what}${suspended ? " and is suspended" : ""}`;
        return { result: machine.name, text, endpoint: machine.name };
      });
    },

    resumeMachine(input: StepInput & { name: string }): Promise<void> {
      return asStep(deps, input, "wake the ghost", async () => {
        if ((await deps.store.revokedEndpoints(input.swarm)).includes(input.name))
          throw new ForeshiftError("ENDPOINT_REVOKED", { value: input.name, detail: "it is not woken" });
        await deps.hypervisor.resume({ operation: input.operation, name: input.name });
        return { result: undefined, text: `${input.name} is awake`, endpoint: input.name };
      });
    },

    terminateMachine(input: StepInput & { name: string }): Promise<void> {
      return asStep(deps, input, "terminate the machine", async () => {
        await deps.hypervisor.terminate({ operation: input.operation, name: input.name });
        return { result: undefined, text: `${input.name} is gone`, endpoint: input.name };
      });
    },

    repairMachine(input: StepInput & { name: string }): Promise<void> {
      return asStep(deps, input, "repair in place", async () => {
        await deps.hypervisor.repair({ operation: input.operation, name: input.name });
        return { result: undefined, text: `The links and processes of ${input.name} were repaired`, endpoint: input.name };
      });
    },
  };
}
