/**
 * Tags: what a machine is, kept where it cannot be lost and is seen by everybody. They are the hypervisor's only memory.
 */
import { createHash } from "node:crypto";
import type { Instance, TagSpecification } from "@aws-sdk/client-ec2";
import { CLOUD_LIMITS } from "../../../models/limits-cloud.ts";

export const TAG = {
  /** Name of its swarm: only machines with this tag are Foreshift's, and its policy lets it touch no others. */
  swarm: "foreshift:swarm",
  /** Hash of the key it was launched by. */
  launch: "foreshift:launch",
  /** The same, to be read. */
  operation: "foreshift:operation",
  /** Set once it has booted; before it is no machine of the swarm yet. */
  booted: "foreshift:booted",
  /** Hashes of the keys that were carried out on it, the latest last. */
  done: "foreshift:done",
} as const;

const HASH_DIGITS_SHORT = 16;
const VALUE_CHARS_MAX = 256;

export function hashOf(operation: string): string {
  return createHash("sha256").update(operation).digest("hex");
}

export function tagOf(instance: Instance, key: string): string | undefined {
  return instance.Tags?.find((tag) => tag.Key === key)?.Value;
}

export function wasDone(instance: Instance, operation: string): boolean {
  return keysOf(instance).includes(shortHashOf(operation));
}

/** The journal with one key more. */
export function withDone(instance: Instance, operation: string): { Key: string; Value: string } {
  const keys = [...keysOf(instance), shortHashOf(operation)].slice(-CLOUD_LIMITS.journalKeysMax);
  return { Key: TAG.done, Value: keys.join(" ") };
}

/** Of the machine and of what is made with it, so that everything that costs money says whose it is. */
export function launchTags(request: { operation: string; swarm: string; suspended: boolean }): TagSpecification[] {
  const { operation, swarm, suspended } = request;
  const own = { Key: TAG.swarm, Value: swarm };
  const readable = operation.replace(/[^\p{L}\p{N} +\-=._:/@]/gu, "_").slice(0, VALUE_CHARS_MAX);
  const machine = [
    own,
    { Key: TAG.launch, Value: hashOf(operation) },
    { Key: TAG.operation, Value: readable },
    { Key: "Name", Value: `${swarm} ${suspended ? "ghost" : "endpoint"}` },
  ];
  return [
    { ResourceType: "instance", Tags: machine },
    { ResourceType: "volume", Tags: [own] },
    { ResourceType: "network-interface", Tags: [own] },
  ];
}

function keysOf(instance: Instance): readonly string[] {
  return (tagOf(instance, TAG.done) ?? "").split(" ").filter((key) => key !== "");
}

function shortHashOf(operation: string): string {
  return hashOf(operation).slice(0, HASH_DIGITS_SHORT);
}
