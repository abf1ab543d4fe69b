/**
 * How clients are brought to a swarm from outside: what a load balancer's target groups and a name's weighted records have to say, so that
 * each endpoint gets new clients in proportion to its weight. Pure arithmetic on the steering state.
 */
import type { Member, SteeringState } from "./steering.ts";

export interface TargetGroup {
  /** Endpoints in it, each with the same share of what the group gets. */
  readonly members: readonly Member[];
  /** Of the listener, among all groups: 0 to `GROUP_WEIGHT_MAX`. */
  readonly weight: number;
}

/** The largest weight that a listener of an AWS load balancer takes for a target group. */
export const GROUP_WEIGHT_MAX = 999;
/** The largest weight of a weighted record in Route 53. */
export const RECORD_WEIGHT_MAX = 255;

/** Takes new clients. */
export function isOpen({ weight, draining }: Member): boolean {
  return weight > 0 && !draining;
}

/**
 * Endpoints by weight, heaviest first, in `groups` groups: within a group a load balancer knows no weights, so endpoints of one weight share
 * one, and the group gets weight x members. With more different weights than groups, neighbours whose weights differ least share one, at
 * their mean. Groups that are not needed are empty, with weight 0.
 */
export function targetGroups(members: readonly Member[], groups: number): readonly TargetGroup[] {
  const open = members.filter(isOpen).toSorted((a, b) => b.weight - a.weight || (a.endpoint < b.endpoint ? -1 : 1));
  const classes: Member[][] = [];
  for (const member of open) {
    const last = classes.at(-1);
    if (last?.[0]?.weight === member.weight) last.push(member);
    else classes.push([member]);
  }
  while (classes.length > groups) mergeNearest(classes);
  const sums = classes.map((one) => one.reduce((sum, { weight }) => sum + weight, 0));
  const scale = Math.min(1, GROUP_WEIGHT_MAX / Math.max(1, ...sums));
  return Array.from({ length: groups }, (_, index) => ({
    members: classes[index] ?? [],
    // What is open gets something, however small its share.
    weight: classes[index] === undefined ? 0 : Math.max(1, Math.round((sums[index] ?? 0) * scale)),
  }));
}

function mergeNearest(classes: Member[][]): void {
  const gap = (index: number) => mean(classes[index] ?? []) - mean(classes[index + 1] ?? []);
  let nearest = 0;
  for (let index = 1; index + 1 < classes.length; index += 1) if (gap(index) < gap(nearest)) nearest = index;
  const [one = [], other = []] = classes.slice(nearest, nearest + 2);
  classes.splice(nearest, 2, [...one, ...other]);
}

function mean(members: readonly Member[]): number {
  return members.reduce((sum, { weight }) => sum + weight, 0) / members.length;
}

/**
 * The weight of a swarm's record beside those of other swarms of the same name: what its open members carry, of `capacity` in their unit
 * (100 for each endpoint at full weight). A swarm that takes anybody has at least 1; one that takes nobody has 0 and is left out by DNS.
 */
export function recordWeight({ members }: Pick<SteeringState, "members">, capacity: number): number {
  const carried = members.filter(isOpen).reduce((sum, { weight }) => sum + weight, 0);
  if (carried === 0) return 0;
  return Math.min(RECORD_WEIGHT_MAX, Math.max(1, Math.round((RECORD_WEIGHT_MAX * carried) / Math.max(1, capacity))));
}
