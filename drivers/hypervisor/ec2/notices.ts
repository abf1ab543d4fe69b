/**
 * EC2's own word on machines: scheduled events and status checks, and what becomes of Spot requests. Two calls for up to a hundred
 * machines, and not more often than every few seconds, whoever asks.
 */
import {
  DescribeInstanceStatusCommand,
  DescribeSpotInstanceRequestsCommand,
  type EC2Client,
  type Instance,
  type InstanceStatus,
  type SpotInstanceRequest,
} from "@aws-sdk/client-ec2";
import { CLOUD_LIMITS } from "../../../models/limits-cloud.ts";
import type { MachineNotice } from "../../../models/machine-notices.ts";
import { asked } from "../../aws/calls.ts";
import { idOf, isState } from "./machine.ts";

/** By which a Spot request says that its instance is to go. */
const INTERRUPTED =
  /^(marked-for-(termination|stop)|instance-(terminated|stopped)-(by-price|no-capacity|capacity-oversubscribed))$/;

/** Of machines that run. */
export async function noticesOf(client: EC2Client, instances: readonly Instance[]): Promise<readonly MachineNotice[]> {
  const running = instances.filter((instance) => isState(instance, "running"));
  const spot = running.filter(({ InstanceLifecycle }) => InstanceLifecycle === "spot");
  const [statuses, requests] = await Promise.all([statusesOf(client, running.map(idOf)), requestsOf(client, spot.map(idOf))]);
  return [...statuses.flatMap(ofStatus), ...requests.flatMap(ofRequest)];
}

/** Whether EC2's own checks of the machine have passed. */
export async function passedChecks(client: EC2Client, id: string): Promise<boolean> {
  const [status] = await statusesOf(client, [id]);
  return status?.InstanceStatus?.Status === "ok" && status.SystemStatus?.Status === "ok";
}

/** They take no filter by tag. */
async function statusesOf(client: EC2Client, ids: readonly string[]): Promise<readonly InstanceStatus[]> {
  const found = await inBatches(ids, (InstanceIds) =>
    asked("DescribeInstanceStatus", () => client.send(new DescribeInstanceStatusCommand({ InstanceIds }))),
  );
  return found.flatMap(({ InstanceStatuses = [] }) => InstanceStatuses);
}

async function requestsOf(client: EC2Client, ids: readonly string[]): Promise<readonly SpotInstanceRequest[]> {
  const found = await inBatches(ids, (Values) =>
    asked("DescribeSpotInstanceRequests", () =>
      client.send(new DescribeSpotInstanceRequestsCommand({ Filters: [{ Name: "instance-id", Values }] })),
    ),
  );
  return found.flatMap(({ SpotInstanceRequests = [] }) => SpotInstanceRequests);
}

async function inBatches<T>(ids: readonly string[], call: (ids: string[]) => Promise<T>): Promise<readonly T[]> {
  const answers: T[] = [];
  for (let from = 0; from < ids.length; from += CLOUD_LIMITS.batchSizeMax)
    answers.push(await call(ids.slice(from, from + CLOUD_LIMITS.batchSizeMax)));
  return answers;
}

export function ofStatus({
  InstanceId: machine = "",
  Events = [],
  SystemStatus,
  InstanceStatus: own,
}: InstanceStatus): MachineNotice[] {
  const notices: MachineNotice[] = Events.filter(({ Description = "" }) => !/^\[(Completed|Canceled)\]/.test(Description)).map(
    ({ Code = "event", Description = "", InstanceEventId, NotBefore, NotAfter }) => ({
      id: InstanceEventId ?? `${machine}/${Code}`,
      machine,
      kind: "maintenance",
      fromMs: NotBefore?.getTime(),
      untilMs: NotAfter?.getTime(),
      text: `EC2 has planned ${Code} for ${machine}${Description === "" ? "" : `: ${Description}`}`,
    }),
  );
  const checked = (kind: "host-impaired" | "machine-impaired", what: string): MachineNotice => {
    return {
      id: `${machine}/${kind}`,
      machine,
      kind,
      fromMs: undefined,
      untilMs: undefined,
      text: `EC2's check of ${what} fails`,
    };
  };
  if (SystemStatus?.Status === "impaired") notices.push(checked("host-impaired", `the host of ${machine}`));
  if (own?.Status === "impaired") notices.push(checked("machine-impaired", machine));
  return notices;
}

export function ofRequest({ InstanceId: machine, SpotInstanceRequestId, Status }: SpotInstanceRequest): MachineNotice[] {
  if (machine === undefined || !INTERRUPTED.test(Status?.Code ?? "")) return [];
  const text = `EC2 takes the Spot machine ${machine} back: ${Status?.Message ?? Status?.Code}`;
  return [{ id: `${SpotInstanceRequestId}`, machine, kind: "interruption", fromMs: undefined, untilMs: undefined, text }];
}
