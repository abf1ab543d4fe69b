/**
 * An AWS Network Load Balancer as a swarm's front door. Within a target group all targets are alike, so endpoints of one weight share a
 * group, and the listener weighs the groups. What drains is deregistered: it gets no new flows and keeps those it has.
 */
import {
  DeregisterTargetsCommand,
  DescribeListenersCommand,
  DescribeTargetHealthCommand,
  ElasticLoadBalancingV2Client,
  ModifyListenerCommand,
  RegisterTargetsCommand,
  type TargetHealthDescription,
} from "@aws-sdk/client-elastic-load-balancing-v2";
import { type TargetGroup, targetGroups } from "../../models/front-door.ts";
import type { MachineNotice } from "../../models/machine-notices.ts";
import { type Member, type SteeringState } from "../../models/steering.ts";
import { asked, clientOptions } from "../aws/calls.ts";
import type { FrontDoor } from "../ports.ts";
import type { NlbConfig } from "./front-door-config.ts";

/** Of a target group: addresses that take new flows or soon will, and what is told of each. */
type Registered = ReadonlyMap<string, TargetHealthDescription>;

export function nlbFrontDoor(config: NlbConfig): FrontDoor & { close(): Promise<void> } {
  const client = new ElasticLoadBalancingV2Client(clientOptions(config));
  return {
    apply: (state) => apply(client, config, state),
    notices: (state) => noticesOf(client, config, state),
    close: async () => client.destroy(),
  };
}

/** First in, then weighed, then out: at no moment has a group weight and nobody in it. */
async function apply(client: ElasticLoadBalancingV2Client, config: NlbConfig, state: SteeringState): Promise<void> {
  if (state.swarm !== config.swarm) return;
  const { targetGroupArns } = config;
  const wanted = targetGroups(state.members, targetGroupArns.length);
  const present = await Promise.all(targetGroupArns.map((group) => registeredIn(client, group)));
  const moves = targetGroupArns.map((group, index) => {
    const addresses = (wanted[index]?.members ?? []).map(addressOf);
    const there = [...(present[index]?.keys() ?? [])];
    return { group, join: without(addresses, there), leave: without(there, addresses) };
  });
  for (const { group, join } of moves) if (join.length > 0) await register(client, config, group, join);
  await weigh(client, config, wanted);
  for (const { group, leave } of moves) if (leave.length > 0) await deregister(client, config, group, leave);
}

async function registeredIn(client: ElasticLoadBalancingV2Client, group: string): Promise<Registered> {
  const { TargetHealthDescriptions = [] } = await asked("DescribeTargetHealth", () =>
    client.send(new DescribeTargetHealthCommand({ TargetGroupArn: group })),
  );
  // What drains is still described, and is registered no more.
  const held = TargetHealthDescriptions.filter(({ TargetHealth }) => TargetHealth?.State !== "draining");
  return new Map(held.map((one) => [one.Target?.Id ?? "", one]));
}

async function register(client: ElasticLoadBalancingV2Client, config: NlbConfig, group: string, addresses: readonly string[]) {
  const change = { TargetGroupArn: group, Targets: targetsOf(config, addresses) };
  await asked(`RegisterTargets ${addresses.join(", ")}`, () => client.send(new RegisterTargetsCommand(change)));
}

async function deregister(
  client: ElasticLoadBalancingV2Client,
  config: NlbConfig,
  group: string,
  addresses: readonly string[],
) {
  const change = { TargetGroupArn: group, Targets: targetsOf(config, addresses) };
  await asked(`DeregisterTargets ${addresses.join(", ")}`, () => client.send(new DeregisterTargetsCommand(change)));
}

async function weigh(client: ElasticLoadBalancingV2Client, config: NlbConfig, groups: readonly TargetGroup[]): Promise<void> {
  const { listenerArn, targetGroupArns } = config;
  const total = groups.reduce((sum, { weight }) => sum + weight, 0);
  // Where nobody is open the weights stay: a listener must have some, and it sends flows to nobody anyway.
  if (total === 0) return;
  const weights = targetGroupArns.map((TargetGroupArn, index) => ({ TargetGroupArn, Weight: groups[index]?.weight ?? 0 }));
  const { Listeners: [listener] = [] } = await asked("DescribeListeners", () =>
    client.send(new DescribeListenersCommand({ ListenerArns: [listenerArn] })),
  );
  const held = listener?.DefaultActions?.[0]?.ForwardConfig?.TargetGroups ?? [];
  const heldWeight = (group: string) => held.find(({ TargetGroupArn }) => TargetGroupArn === group)?.Weight;
  if (weights.every(({ TargetGroupArn, Weight }) => heldWeight(TargetGroupArn) === Weight)) return;
  const DefaultActions = [{ Type: "forward" as const, ForwardConfig: { TargetGroups: weights } }];
  await asked("ModifyListener", () => client.send(new ModifyListenerCommand({ ListenerArn: listenerArn, DefaultActions })));
}

/** Members whose health checks fail while they are open to new flows. */
async function noticesOf(
  client: ElasticLoadBalancingV2Client,
  config: NlbConfig,
  state: SteeringState,
): Promise<readonly MachineNotice[]> {
  if (state.swarm !== config.swarm) return [];
  const registered = await Promise.all(config.targetGroupArns.map((group) => registeredIn(client, group)));
  return state.members.flatMap((member): MachineNotice[] => {
    const told = registered.flatMap((group) => group.get(addressOf(member)) ?? []);
    const failing = told.find(({ TargetHealth }) => TargetHealth?.State === "unhealthy");
    if (failing === undefined) return [];
    const { endpoint } = member;
    const why = failing.TargetHealth?.Description ?? failing.TargetHealth?.Reason ?? "no reason is given";
    const text = `The load balancer's health checks of ${endpoint} fail: ${why}`;
    return [
      { id: `${endpoint}/nlb`, machine: endpoint, kind: "machine-impaired", fromMs: undefined, untilMs: undefined, text },
    ];
  });
}

function targetsOf({ targetPort }: NlbConfig, addresses: readonly string[]) {
  return addresses.map((Id) => ({ Id, Port: targetPort }));
}

function addressOf({ link }: Member): string {
  return link.probeAddress;
}

function without(some: readonly string[], others: readonly string[]): string[] {
  return some.filter((one) => !others.includes(one));
}
