/** A cloud for one test file: moto's server, the relay before it, and what a person has made there beforehand: subnets, a launch template. */
import { CreateLaunchTemplateCommand, DescribeSubnetsCommand, EC2Client } from "@aws-sdk/client-ec2";
import { Ec2Config } from "../../../drivers/hypervisor/ec2/config.ts";
import { bringMoto, startMoto } from "../../../setup/moto.ts";
import { testHome } from "../services.ts";
import { type Relay, startRelay } from "./relay.ts";

const REGION = "eu-west-1";
/** One of those that moto has. */
const IMAGE = "ami-03cf127a";

export interface Cloud {
  readonly relay: Relay;
  /** Past the relay, for what tests do to the cloud themselves. */
  readonly ec2: EC2Client;
  readonly motoUrl: string;
  readonly config: Ec2Config;
  stop(): Promise<void>;
}

/** A sentence where this machine cannot have moto. */
export async function startCloud(): Promise<Cloud | string> {
  const program = await bringMoto();
  if (typeof program === "string") return program;
  // Moto takes any.
  Object.assign(process.env, { AWS_ACCESS_KEY_ID: "test", AWS_SECRET_ACCESS_KEY: "test" });
  const where = await testHome();
  const moto = await startMoto(where, program);
  const relay = await startRelay(moto.address);
  const ec2 = new EC2Client({ region: REGION, endpoint: moto.address });
  return {
    relay,
    ec2,
    motoUrl: moto.address,
    config: await prepare(ec2, relay.url),
    stop: async () => {
      ec2.destroy();
      await relay.close();
      await moto.stop();
      await where.remove();
    },
  };
}

async function prepare(ec2: EC2Client, endpoint: string): Promise<Ec2Config> {
  const { Subnets = [] } = await ec2.send(new DescribeSubnetsCommand({}));
  const LaunchTemplateData = { ImageId: IMAGE };
  const made = await ec2.send(new CreateLaunchTemplateCommand({ LaunchTemplateName: "endpoint", LaunchTemplateData }));
  return Ec2Config.parse({
    kind: "ec2",
    region: REGION,
    endpoint,
    launchTemplate: { id: made.LaunchTemplate?.LaunchTemplateId },
    subnets: Subnets.map(({ SubnetId }) => ({ id: SubnetId, device: "eth1", returnDevice: "eth2" })),
    instanceTypes: ["c7gn.large", "c6gn.large", "t4g.small"],
    // Machines of moto run nothing.
    booted: "running",
    agentPort: 7_443,
    probeInnerRange: "10.67.0.0/16",
  });
}
