/**
 * A name in Route 53 as a front door of several swarms: each keeps its own weighted record, whose weight is what its open members carry.
 * Resolvers hold an answer for its time to live, so this moves shares of new clients, and no session.
 */
import {
  ChangeResourceRecordSetsCommand,
  ListResourceRecordSetsCommand,
  type ResourceRecordSet,
  Route53Client,
} from "@aws-sdk/client-route-53";
import { recordWeight } from "../../models/front-door.ts";
import type { SteeringState } from "../../models/steering.ts";
import { asked, clientOptions } from "../aws/calls.ts";
import type { FrontDoor } from "../ports.ts";
import type { Route53Config } from "./front-door-config.ts";

export function route53FrontDoor(config: Route53Config): FrontDoor & { close(): Promise<void> } {
  const client = new Route53Client(clientOptions(config));
  return { apply: (state) => apply(client, config, state), close: async () => client.destroy() };
}

async function apply(client: Route53Client, config: Route53Config, state: SteeringState): Promise<void> {
  if (state.swarm !== config.swarm) return;
  const changed: ResourceRecordSet[] = [];
  for (const wanted of recordsOf(config, state)) if (!isSame(await held(client, config, wanted), wanted)) changed.push(wanted);
  if (changed.length === 0) return;
  const Changes = changed.map((ResourceRecordSet) => ({ Action: "UPSERT" as const, ResourceRecordSet }));
  const change = { HostedZoneId: config.hostedZoneId, ChangeBatch: { Comment: `epoch ${state.epoch}`, Changes } };
  await asked(`ChangeResourceRecordSets of ${config.name}`, () => client.send(new ChangeResourceRecordSetsCommand(change)));
}

/** One for each family of addresses that the swarm has. */
function recordsOf(
  { name, swarm, addresses, ttlS, capacity }: Route53Config,
  state: SteeringState,
): readonly ResourceRecordSet[] {
  const families = [
    ["A", addresses.v4 ?? state.vip.v4],
    ["AAAA", addresses.v6 ?? state.vip.v6],
  ] as const;
  return families.flatMap(([Type, Value]) =>
    Value === undefined
      ? []
      : [
          {
            Name: `${name}.`,
            Type,
            SetIdentifier: swarm,
            Weight: recordWeight(state, capacity),
            TTL: ttlS,
            ResourceRecords: [{ Value }],
          },
        ],
  );
}

/** Records are listed in the order of name, type and identifier: the swarms of one name lie together. */
async function held(
  client: Route53Client,
  { hostedZoneId }: Route53Config,
  { Name, Type, SetIdentifier }: ResourceRecordSet,
): Promise<ResourceRecordSet | undefined> {
  const from = { StartRecordName: Name, StartRecordType: Type, StartRecordIdentifier: SetIdentifier };
  const { ResourceRecordSets = [] } = await asked("ListResourceRecordSets", () =>
    client.send(new ListResourceRecordSetsCommand({ HostedZoneId: hostedZoneId, ...from })),
  );
  return ResourceRecordSets.find((one) => one.Name === Name && one.Type === Type && one.SetIdentifier === SetIdentifier);
}

function isSame(one: ResourceRecordSet | undefined, other: ResourceRecordSet): boolean {
  const told = (record: ResourceRecordSet) => [
    record.Name,
    record.Type,
    record.SetIdentifier,
    record.Weight,
    record.TTL,
    record.ResourceRecords?.map(({ Value }) => Value),
  ];
  return one !== undefined && JSON.stringify(told(one)) === JSON.stringify(told(other));
}
