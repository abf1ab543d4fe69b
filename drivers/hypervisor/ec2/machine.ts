/** An EC2 instance as the port sees a machine. Its name is its instance id: unique, never used again, and what the console shows. */
import type { Instance } from "@aws-sdk/client-ec2";
import type { MachineState } from "../../../models/observation.ts";
import type { Machine } from "../../ports.ts";
import type { Ec2Config } from "./config.ts";
import { TAG, tagOf } from "./tags.ts";

const ENDED = new Set(["shutting-down", "terminated"]);
const STANDING = new Set(["stopping", "stopped"]);

export function idOf(instance: Instance): string {
  return instance.InstanceId ?? "";
}

export function hasEnded(instance: Instance): boolean {
  return ENDED.has(instance.State?.Name ?? "");
}

export function isState(instance: Instance, state: "running" | "stopped" | "stopping" | "pending"): boolean {
  return instance.State?.Name === state;
}

export function hasBooted(instance: Instance): boolean {
  return tagOf(instance, TAG.booted) !== undefined;
}

export function launchedAtMs(instance: Instance): number {
  // LaunchTime is that of the last start; the first attachment of its disk or interface is when the machine was made.
  const attached = instance.NetworkInterfaces?.[0]?.Attachment?.AttachTime?.getTime();
  return Math.min(attached ?? Number.POSITIVE_INFINITY, instance.LaunchTime?.getTime() ?? 0);
}

/** Where it stands when it is asked why it ended; for a person. */
export function reasonOf(instance: Instance): string {
  const { StateReason, StateTransitionReason, State } = instance;
  return StateReason?.Message ?? StateTransitionReason ?? `it is ${State?.Name ?? "in no state"}`;
}

export function machineOf(instance: Instance, config: Ec2Config): Machine {
  const [first, second] = (instance.NetworkInterfaces ?? []).toSorted(
    (a, b) => (a.Attachment?.DeviceIndex ?? 0) - (b.Attachment?.DeviceIndex ?? 0),
  );
  const subnet = config.subnets.find(({ id }) => id === instance.SubnetId) ?? config.subnets[0];
  const address = instance.PrivateIpAddress ?? first?.PrivateIpAddress ?? "0.0.0.0";
  const mac = first?.MacAddress ?? "00:00:00:00:00:00";
  return {
    name: idOf(instance),
    swarm: tagOf(instance, TAG.swarm) ?? "",
    state: stateOf(instance),
    createdAtMs: launchedAtMs(instance),
    image: instance.ImageId,
    link: {
      device: subnet?.device ?? "",
      mac,
      returnDevice: subnet?.returnDevice ?? "",
      returnMac: second?.MacAddress ?? mac,
      probeAddress: address,
      probeInnerAddress: innerAddress(config.probeInnerRange, address),
      agent: `${address}:${config.agentPort}`,
    },
  };
}

function stateOf(instance: Instance): MachineState {
  const state = instance.State?.Name ?? "";
  if (ENDED.has(state)) return "gone";
  return STANDING.has(state) ? "suspended" : "running";
}

/** The network part of the range with the host part of the address. */
export function innerAddress(range: string, address: string): string {
  const [network = "", bits = "32"] = range.split("/");
  const hostMask = 2 ** (32 - Number(bits)) - 1;
  const number = (numberOf(network) & ~hostMask) | (numberOf(address) & hostMask);
  return [24, 16, 8, 0].map((shift) => (number >>> shift) & 0xff).join(".");
}

function numberOf(address: string): number {
  return address.split(".").reduce((sum, part) => ((sum << 8) | Number(part)) >>> 0, 0);
}
