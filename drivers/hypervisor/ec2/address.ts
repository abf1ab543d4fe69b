/**
 * An address that moves from one instance to another, as a balancer's does when its host is to go: an Elastic IP, or a secondary private
 * address. Either is taken from whoever has it, and moved once.
 */

import { setTimeout as delay } from "node:timers/promises";
import {
  AssignPrivateIpAddressesCommand,
  AssociateAddressCommand,
  DescribeAddressesCommand,
  DescribeInstancesCommand,
  EC2Client,
  type InstanceNetworkInterface,
} from "@aws-sdk/client-ec2";
import { ForeshiftError } from "../../../models/errors.ts";
import { CLOUD_LIMITS } from "../../../models/limits-cloud.ts";
import { asked, clientOptions } from "../../aws/calls.ts";
import type { AwsAccess } from "../../aws/config.ts";

export interface AddressMove {
  readonly address: string;
  /** Instance id. */
  readonly to: string;
  readonly lookIntervalMs?: number;
}

export interface AddressMoved {
  readonly address: string;
  readonly kind: "elastic" | "private";
  readonly to: string;
  /** False where it was there already. */
  readonly moved: boolean;
}

/** UNKNOWN_ENDPOINT where there is no such instance; NOT_READY when EC2 does not show the move in time. */
export async function moveAddress(access: AwsAccess, move: AddressMove): Promise<AddressMoved> {
  const client = new EC2Client(clientOptions(access));
  try {
    return await moveWith(client, move);
  } finally {
    client.destroy();
  }
}

async function moveWith(
  client: EC2Client,
  { address, to, lookIntervalMs = CLOUD_LIMITS.lookIntervalMs }: AddressMove,
): Promise<AddressMoved> {
  const target = await primaryOf(client, to);
  const elastic = await allocationOf(client, address);
  const kind = elastic === undefined ? "private" : "elastic";
  const isThere = async () => holds(await primaryOf(client, to), address);
  if (holds(target, address)) return { address, kind, to, moved: false };
  const { NetworkInterfaceId = "" } = target;
  await asked(`moving ${address} to ${to}`, () =>
    elastic === undefined
      ? client.send(
          new AssignPrivateIpAddressesCommand({ NetworkInterfaceId, PrivateIpAddresses: [address], AllowReassignment: true }),
        )
      : client.send(new AssociateAddressCommand({ AllocationId: elastic, NetworkInterfaceId, AllowReassociation: true })),
  );
  const deadlineMs = performance.now() + CLOUD_LIMITS.consistencyTimeoutMs;
  while (!(await isThere())) {
    if (performance.now() > deadlineMs)
      throw new ForeshiftError("NOT_READY", { value: address, detail: `EC2 does not show it on ${to} yet` });
    await delay(lookIntervalMs);
  }
  return { address, kind, to, moved: true };
}

async function primaryOf(client: EC2Client, instance: string): Promise<InstanceNetworkInterface> {
  const Filters = [{ Name: "instance-id", Values: [instance] }];
  const { Reservations = [] } = await asked("DescribeInstances", () => client.send(new DescribeInstancesCommand({ Filters })));
  const interfaces = Reservations.flatMap(({ Instances = [] }) => Instances).flatMap(
    ({ NetworkInterfaces = [] }) => NetworkInterfaces,
  );
  const found = interfaces.find(({ Attachment }) => Attachment?.DeviceIndex === 0);
  if (found === undefined) throw new ForeshiftError("UNKNOWN_ENDPOINT", { field: "instance", value: instance });
  return found;
}

async function allocationOf(client: EC2Client, address: string): Promise<string | undefined> {
  const Filters = [{ Name: "public-ip", Values: [address] }];
  const { Addresses: [found] = [] } = await asked("DescribeAddresses", () =>
    client.send(new DescribeAddressesCommand({ Filters })),
  );
  return found?.AllocationId;
}

function holds({ PrivateIpAddresses = [], Association }: InstanceNetworkInterface, address: string): boolean {
  const own = PrivateIpAddresses.flatMap((one) => [one.PrivateIpAddress, one.Association?.PublicIp]);
  return Association?.PublicIp === address || own.includes(address);
}
