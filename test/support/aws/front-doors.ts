/** What a person has made of load balancer and zone beforehand. */

import { DescribeSubnetsCommand } from "@aws-sdk/client-ec2";
import {
  CreateListenerCommand,
  CreateLoadBalancerCommand,
  CreateTargetGroupCommand,
  ElasticLoadBalancingV2Client,
} from "@aws-sdk/client-elastic-load-balancing-v2";
import { CreateHostedZoneCommand, Route53Client } from "@aws-sdk/client-route-53";
import { NlbConfig, Route53Config } from "../../../drivers/balancer/front-door-config.ts";
import type { Cloud } from "./cloud.ts";

export async function makeNlb(cloud: Cloud, swarm: string) {
  const { region, endpoint } = cloud.config;
  const client = new ElasticLoadBalancingV2Client({ region, endpoint: cloud.motoUrl });
  const { Subnets = [] } = await cloud.ec2.send(new DescribeSubnetsCommand({}));
  const subnets = Subnets.flatMap(({ SubnetId }) => SubnetId ?? []);
  const { LoadBalancers } = await client.send(
    new CreateLoadBalancerCommand({ Name: swarm, Type: "network", Subnets: subnets }),
  );
  const arns: string[] = [];
  for (const number of [1, 2]) {
    const group = {
      Name: `${swarm}-${number}`,
      Protocol: "UDP",
      Port: 51_820,
      TargetType: "ip",
      VpcId: Subnets[0]?.VpcId,
    } as const;
    const { TargetGroups } = await client.send(new CreateTargetGroupCommand(group));
    arns.push(TargetGroups?.[0]?.TargetGroupArn ?? "");
  }
  const LoadBalancerArn = LoadBalancers?.[0]?.LoadBalancerArn;
  const DefaultActions = [
    {
      Type: "forward" as const,
      ForwardConfig: { TargetGroups: arns.map((TargetGroupArn) => ({ TargetGroupArn, Weight: 1 })) },
    },
  ];
  const { Listeners } = await client.send(
    new CreateListenerCommand({ LoadBalancerArn, Protocol: "UDP", Port: 51_820, DefaultActions }),
  );
  const [listenerArn, targetGroupArns] = [Listeners?.[0]?.ListenerArn, arns];
  const config = NlbConfig.parse({ kind: "nlb", swarm, region, endpoint, listenerArn, targetGroupArns, targetPort: 51_820 });
  return { config, client };
}

export async function makeZone(cloud: Cloud, swarms: readonly string[]) {
  const { region, endpoint } = cloud.config;
  const client = new Route53Client({ region, endpoint: cloud.motoUrl });
  const { HostedZone } = await client.send(new CreateHostedZoneCommand({ Name: "vpn.example", CallerReference: "test" }));
  const hostedZoneId = HostedZone?.Id?.split("/").at(-1);
  const configs = swarms.map((swarm) =>
    Route53Config.parse({ kind: "route53", swarm, region, endpoint, hostedZoneId, name: "in.vpn.example", capacity: 300 }),
  );
  return { configs, client, hostedZoneId };
}
