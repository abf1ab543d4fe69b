// What brings clients to a swarm from outside, against moto's server: a network load balancer, a name in Route 53.
import assert from "node:assert/strict";
import { after, afterEach, describe, test } from "node:test";
import { AllocateAddressCommand, RunInstancesCommand } from "@aws-sdk/client-ec2";
import { DescribeListenersCommand, DescribeTargetHealthCommand } from "@aws-sdk/client-elastic-load-balancing-v2";
import { ListResourceRecordSetsCommand } from "@aws-sdk/client-route-53";
import { moveAddressOnRecord } from "../../activities/address.ts";
import { withDoorNotices, withFrontDoors } from "../../drivers/balancer/front-doors.ts";
import { nlbFrontDoor } from "../../drivers/balancer/nlb.ts";
import { route53FrontDoor } from "../../drivers/balancer/route53.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import type { Member, SteeringState } from "../../models/steering.ts";
import { assertAllowsExactly } from "../support/aws/allowed.ts";
import { type Cloud, startCloud } from "../support/aws/cloud.ts";
import { makeNlb, makeZone } from "../support/aws/front-doors.ts";
import { failing } from "../support/aws/relay.ts";
import { specFor } from "../workflows/support.ts";
import { World } from "../workflows/world.ts";

const started = await startCloud();
if (typeof started === "string") test("front doors", { skip: started }, () => undefined);
else describe("front doors", () => suite(started));

function suite(cloud: Cloud): void {
  const { relay } = cloud;
  after(() => cloud.stop());
  afterEach(() => relay.reset());

  function worldOf(swarm: string): {
    world: World;
    state: () => SteeringState;
    change: (edit: (member: Member) => Member) => SteeringState;
  } {
    const world = new World();
    for (const name of ["ep-1", "ep-2", "ep-3"]) world.addMember(name, specFor({ name: swarm }));
    const state = () => world.steering as SteeringState;
    return { world, state, change: (edit) => ({ ...state(), epoch: state().epoch + 1, members: state().members.map(edit) }) };
  }
  const on = (endpoint: string, change: Partial<Member>) => (member: Member) =>
    member.endpoint === endpoint ? { ...member, ...change } : member;

  test("a load balancer's groups hold endpoints by weight; what drains leaves, and what is told again changes nothing", async () => {
    const { config, client } = await makeNlb(cloud, "nlb");
    const door = nlbFrontDoor(config);
    const { state, change } = worldOf("nlb");
    const targets = async (group: string | undefined) => {
      const { TargetHealthDescriptions = [] } = await client.send(new DescribeTargetHealthCommand({ TargetGroupArn: group }));
      return TargetHealthDescriptions.filter(({ TargetHealth }) => TargetHealth?.State !== "draining")
        .map(({ Target }) => Target?.Id ?? "")
        .toSorted((a, b) => a.localeCompare(b));
    };
    const told = async () => {
      const { Listeners = [] } = await client.send(new DescribeListenersCommand({ ListenerArns: [config.listenerArn] }));
      const weights = Listeners[0]?.DefaultActions?.[0]?.ForwardConfig?.TargetGroups?.map(({ Weight }) => Weight);
      return { weights, targets: await Promise.all(config.targetGroupArns.map(targets)) };
    };
    const [one = "", two = "", three = ""] = state().members.map(({ link }) => link.probeAddress);

    await door.apply(state());
    assert.deepEqual(await told(), { weights: [300, 0], targets: [[one, two, three], []] });
    await door.apply(change(on("ep-2", { weight: 40 })));
    assert.deepEqual(await told(), { weights: [200, 40], targets: [[one, three], [two]] });
    const before = relay.calls.length;
    await door.apply(change(on("ep-2", { weight: 40 })));
    assert.deepEqual(
      relay.calls.slice(before).filter(({ action }) => /Register|Deregister|Modify/.test(action)),
      [],
    );
    await door.apply(change(on("ep-2", { draining: true })));
    assert.deepEqual(await told(), { weights: [200, 0], targets: [[one, three], []] });
    await door.apply({ ...state(), swarm: "another" });
    assert.deepEqual((await told()).weights, [200, 0], "another swarm's state is none of its business");
    await door.close();
    client.destroy();
  });

  test("first in, then weighed, then out; a call that fails on the way leaves nobody without a way in, and the next one finishes", async () => {
    const { config, client } = await makeNlb(cloud, "order");
    const door = nlbFrontDoor(config);
    const { state, change } = worldOf("order");
    await door.apply(state());
    const from = relay.calls.length;
    failing(relay, "elasticloadbalancing:ModifyListener", "TooManyTargets");
    await assert.rejects(
      door.apply(change(on("ep-1", { weight: 10 }))),
      (error: ForeshiftError) => error.code === "CLOUD_REFUSED",
    );
    const made = () =>
      relay.calls.slice(from).flatMap(({ action }) => /:(Register|Deregister|Modify)\w+/.exec(action)?.[0] ?? []);
    assert.deepEqual(made(), [":RegisterTargets", ":ModifyListener"], "it still is where it was");
    await door.apply(change(on("ep-1", { weight: 10 })));
    assert.deepEqual(made().slice(2), [":ModifyListener", ":DeregisterTargets"]);
    await door.close();
    client.destroy();
  });

  test("whose health checks fail is evidence on that endpoint", async () => {
    const { config, client } = await makeNlb(cloud, "health");
    const door = nlbFrontDoor(config);
    const { world, state } = worldOf("health");
    await door.apply(state());
    const [first] = state().members;
    relay.intercept.add(async ({ action }, pass) => {
      if (action !== "elasticloadbalancing:DescribeTargetHealth") return undefined;
      const { status, body } = await pass();
      const address = `<Id>${first?.link.probeAddress}</Id>`;
      const [start, end] = body.split(address);
      const failed = end?.replace(
        /<State>\w+<\/State>/,
        "<State>unhealthy</State><Description>Health checks failed</Description>",
      );
      return { status, body: failed === undefined ? body : `${start}${address}${failed}` };
    });
    const told = withDoorNotices(world.hypervisor, world.balancer, [door]);
    const said = await told.notices?.("health");
    assert.deepEqual(
      said?.map(({ machine, kind }) => [machine, kind]),
      [[first?.endpoint, "machine-impaired"]],
    );
    assert.match(said?.[0]?.text ?? "", /health checks of ep-1 fail: Health checks failed/);
    assert.deepEqual(await told.notices?.("another"), []);
    await door.close();
    client.destroy();
  });

  test("two swarms share a name by what they carry; one that takes nobody has weight 0", async () => {
    const { configs, client, hostedZoneId } = await makeZone(cloud, ["east", "west"]);
    const doors = configs.map((config) => route53FrontDoor(config));
    const [east, west] = [worldOf("east"), worldOf("west")];
    const weights = async () => {
      const { ResourceRecordSets = [] } = await client.send(new ListResourceRecordSetsCommand({ HostedZoneId: hostedZoneId }));
      return ResourceRecordSets.flatMap(({ Name, SetIdentifier, Weight }) =>
        Name === "in.vpn.example." ? [[SetIdentifier, Weight]] : [],
      );
    };
    for (const door of doors) for (const { state } of [east, west]) await door.apply(state());
    assert.deepEqual(await weights(), [
      ["east", 255],
      ["west", 255],
    ]);
    await doors[0]?.apply(east.change(on("ep-1", { draining: true })));
    assert.deepEqual(await weights(), [
      ["east", 170],
      ["west", 255],
    ]);
    await doors[0]?.apply(east.change((member) => ({ ...member, weight: 0 })));
    assert.deepEqual(await weights(), [
      ["east", 0],
      ["west", 255],
    ]);
    const before = relay.calls.length;
    await doors[1]?.apply(west.state());
    assert.deepEqual(
      relay.calls.slice(before).map(({ action }) => action),
      ["route53:ListResourceRecordSets"],
      "told already",
    );
    for (const door of doors) await door.close();
    client.destroy();
  });

  test("an address moves to another instance, whoever has it, once, and on record", async () => {
    const { ec2, config } = cloud;
    const from = relay.calls.length;
    const LaunchTemplate = { LaunchTemplateId: config.launchTemplate.id };
    const SubnetId = config.subnets[0]?.id;
    const made = await ec2.send(new RunInstancesCommand({ LaunchTemplate, SubnetId, MinCount: 2, MaxCount: 2 }));
    const [one = "", two = ""] = (made.Instances ?? []).map(({ InstanceId = "" }) => InstanceId);
    const { PublicIp = "" } = await ec2.send(new AllocateAddressCommand({ Domain: "vpc" }));
    const prefix = /^\d+\.\d+\.\d+\./.exec(made.Instances?.[0]?.PrivateIpAddress ?? "")?.[0] ?? "";
    for (const [address, kind] of [
      [PublicIp, "elastic"],
      [`${prefix}200`, "private"],
    ] as const) {
      const world = new World();
      const move = (operation: string, to: string) =>
        moveAddressOnRecord(world.store, config, {
          operation,
          swarm: "eu",
          by: "ana",
          reason: "its host goes",
          address,
          to,
          lookIntervalMs: 10,
        });
      assert.deepEqual(await move("first", one), { address, kind, to: one, moved: true });
      assert.deepEqual(await move("first", one), { address, kind, to: one, moved: false });
      assert.deepEqual(await move("again", one), { address, kind, to: one, moved: false });
      assert.deepEqual(await move("back", two), { address, kind, to: two, moved: true });
      assert.deepEqual(
        world.auditRows.map(({ operation, action, swarm, outcome, text }) => [operation, action, swarm, outcome, text]),
        [
          ["first", "move an address", "eu", "done", `${address} moved to ${one}. ana: its host goes`],
          ["again", "move an address", "eu", "already-done", `${address} was already on ${one}. ana: its host goes`],
          ["back", "move an address", "eu", "done", `${address} moved to ${two}. ana: its host goes`],
        ],
      );
    }
    const asked = { operation: "nowhere", swarm: "eu", by: "ana", reason: "its host goes", address: PublicIp };
    const world = new World();
    const nowhere = moveAddressOnRecord(world.store, config, { ...asked, to: "i-0123456789abcdef0" });
    await assert.rejects(nowhere, (error: ForeshiftError) => error.code === "UNKNOWN_ENDPOINT");
    assert.equal(world.auditRows.length, 0);
    const away = { audit: () => Promise.reject(new Error("no connection")) };
    const unwritten = moveAddressOnRecord(away, config, { ...asked, to: one, lookIntervalMs: 10 });
    await assert.rejects(unwritten, /is on i-\w+, but that could not be written down: no connection; .*--operation nowhere/);
    await assertAllowsExactly("address.json", relay.calls.slice(from), []);
    relay.calls.splice(from);
  });

  test("a balancer tells its doors what it holds, after it holds it", async () => {
    const { world, change } = worldOf("fronted");
    const told: number[] = [];
    const balancer = withFrontDoors(world.balancer, [{ apply: async ({ epoch }) => void told.push(epoch) }]);
    const wanted = change(on("ep-1", { weight: 50 }));
    await balancer.apply({ ...wanted, operation: "doors/1" });
    await balancer.apply({ ...wanted, epoch: wanted.epoch + 1, operation: "doors/1" });
    await assert.rejects(
      balancer.apply({ ...wanted, operation: "doors/2" }),
      (error: ForeshiftError) => error.code === "STALE_EPOCH",
    );
    assert.deepEqual(told, [wanted.epoch, wanted.epoch]);
  });

  test("their policy allows every call that was made here, and nothing else", async () => {
    await assertAllowsExactly("front-doors.json", relay.calls, []);
  });
}
