// The hypervisor on EC2, against moto's server, and against a cloud that errs as EC2 does.
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { after, afterEach, describe, test } from "node:test";
import { DescribeInstancesCommand, type Instance, RunInstancesCommand, TerminateInstancesCommand } from "@aws-sdk/client-ec2";
import { answers } from "../../drivers/hypervisor/ec2/answers.ts";
import type { Ec2Config } from "../../drivers/hypervisor/ec2/config.ts";
import { ec2Hypervisor } from "../../drivers/hypervisor/ec2/ec2.ts";
import type { Machine } from "../../drivers/ports.ts";
import type { ForeshiftError } from "../../models/errors.ts";
import { noticeEvents } from "../../models/machine-notices.ts";
import { outsideRisk } from "../../models/outside-events.ts";
import { assertAllowsExactly } from "../support/aws/allowed.ts";
import { type Cloud, startCloud } from "../support/aws/cloud.ts";
import { awsError, failing } from "../support/aws/relay.ts";
import { hypervisorContract } from "../support/contracts/hypervisor.ts";
import { eventually } from "../support/eventually.ts";

const started = await startCloud();
const PACE = { lookIntervalMs: 10, noticesIntervalMs: 0 };
const NO_ROOM = "InsufficientInstanceCapacity";

if (typeof started === "string") test("the hypervisor on EC2", { skip: started }, () => undefined);
else describe("the hypervisor on EC2", () => suite(started));

function suite(cloud: Cloud): void {
  const { relay, ec2, config } = cloud;
  const opened: ReturnType<typeof ec2Hypervisor>[] = [];
  const open = (changes: Partial<Ec2Config> = {}, pace = {}) => {
    const hypervisor = ec2Hypervisor({ ...config, ...changes }, { ...PACE, ...pace });
    opened.push(hypervisor);
    return hypervisor;
  };
  const hypervisor = open();
  let launches = 0;
  /** A swarm of its own for each test. */
  const launch = (swarm: string, options: { of?: typeof hypervisor; suspended?: boolean; operation?: string } = {}) => {
    launches += 1;
    const { of = hypervisor, suspended = false, operation = `${swarm}/${launches}` } = options;
    return of.launch({ operation, swarm, suspended });
  };
  const living = async (swarm: string): Promise<readonly Instance[]> => {
    const { Reservations = [] } = await ec2.send(
      new DescribeInstancesCommand({
        Filters: [
          { Name: "tag:foreshift:swarm", Values: [swarm] },
          { Name: "instance-state-name", Values: ["pending", "running", "stopping", "stopped"] },
        ],
      }),
    );
    return Reservations.flatMap(({ Instances = [] }) => Instances);
  };
  const calls = (action: string) => relay.calls.filter((call) => call.action === `ec2:${action}`);
  const codeIs = (code: string) => (error: ForeshiftError) => {
    assert.equal(error.code, code, error.message);
    return true;
  };

  after(async () => {
    for (const one of opened) await one.close();
    await cloud.stop();
  });
  afterEach(() => relay.reset());

  hypervisorContract("lab", () => hypervisor);

  test("machines say whose they are, take foreign addresses, give their credentials to none but themselves, and fill the emptiest zone", async () => {
    const machines: Machine[] = [];
    for (const { id } of config.subnets) machines.push(await launch("made", { operation: `made for ${id}: ünüsual*` }));
    const instances = await living("made");
    assert.equal(new Set(instances.map(({ SubnetId }) => SubnetId)).size, config.subnets.length);
    for (const instance of instances) {
      const { MetadataOptions, NetworkInterfaces, Tags, InstanceType } = instance;
      assert.deepEqual([MetadataOptions?.HttpTokens, MetadataOptions?.HttpPutResponseHopLimit], ["required", 1]);
      assert.ok(NetworkInterfaces?.every(({ SourceDestCheck }) => SourceDestCheck === false));
      assert.match(Tags?.find(({ Key }) => Key === "foreshift:operation")?.Value ?? "", /^made for subnet-\w+: ünüsual_$/);
      assert.equal(InstanceType, "c7gn.large");
    }
    const [first] = machines;
    assert.match(first?.link.probeInnerAddress ?? "", /^10\.67\./);
    assert.equal(first?.link.agent, `${first?.link.probeAddress}:${config.agentPort}`);
  });

  test("a machine boots from the template's image, or from the AMI that is named", async () => {
    const image = "ami-0123456789abcdef0";
    const own = await launch("images");
    const named = await hypervisor.launch({ operation: "images/named", swarm: "images", suspended: false, image });
    assert.deepEqual([named.image, own.image === image], [image, false]);
    const request = { operation: "images/no", swarm: "images", suspended: false, image: "v2" };
    await assert.rejects(hypervisor.launch(request), codeIs("INVALID_FIELD"));
  });

  describe("no room", () => {
    test("in a zone: another one is taken; of a type: the next of the list", async () => {
      const own = open();
      const [full] = config.subnets;
      failing(relay, "ec2:RunInstances", NO_ROOM, {
        status: 500,
        times: 99,
        when: ({ fields }) => fields.get("SubnetId") === full?.id,
      });
      await launch("elsewhere", { of: own });
      assert.deepEqual(
        (await living("elsewhere")).map(({ InstanceType }) => InstanceType),
        ["c7gn.large"],
      );
      relay.reset();
      failing(relay, "ec2:RunInstances", NO_ROOM, {
        status: 500,
        times: 99,
        when: ({ fields }) => fields.get("InstanceType") === "c7gn.large",
      });
      const { name } = await launch("elsewhere", { of: own });
      const second = (await living("elsewhere")).find(({ InstanceId }) => InstanceId === name);
      assert.equal(second?.InstanceType, "c6gn.large");
      const before = calls("RunInstances").length;
      await launch("elsewhere", { of: own });
      assert.equal(calls("RunInstances").length, before + 1, "what had no room a moment ago is tried last");
    });

    test("anywhere: it says so, and nothing is launched; later the same key is carried out", async () => {
      failing(relay, "ec2:RunInstances", NO_ROOM, { status: 500, times: 99 });
      const before = calls("RunInstances").length;
      const refused = launch("full", { of: open(), operation: "full/1" });
      await assert.rejects(refused, (error: ForeshiftError) => {
        assert.equal(error.code, "CLOUD_NO_CAPACITY");
        assert.match(error.message, /c7gn\.large in subnet-\w+ \(InsufficientInstanceCapacity\).*t4g\.small/);
        return true;
      });
      assert.equal((await living("full")).length, 0);
      assert.equal(calls("RunInstances").length, before + config.instanceTypes.length * config.subnets.length, "each once");
      relay.reset();
      assert.equal((await launch("full", { operation: "full/1" })).state, "running");
    });

    test("for a ghost that is to wake: said so, and it sleeps on", async () => {
      const { name } = await launch("asleep", { suspended: true });
      failing(relay, "ec2:StartInstances", NO_ROOM, { status: 500 });
      await assert.rejects(hypervisor.resume({ operation: "asleep/wake", name }), codeIs("CLOUD_NO_CAPACITY"));
      assert.equal((await hypervisor.list("asleep"))[0]?.state, "suspended");
      assert.equal((await hypervisor.resume({ operation: "asleep/wake", name })).state, "running");
    });

    test("on the Spot market: On-Demand is taken; a ghost never is Spot", async () => {
      const own = open({ market: "spot" });
      failing(relay, "ec2:RunInstances", NO_ROOM, {
        status: 500,
        times: 99,
        when: ({ fields }) => fields.has("InstanceMarketOptions.MarketType"),
      });
      await launch("market", { of: own });
      relay.reset();
      await launch("market", { of: open({ market: "spot" }) });
      await launch("market", { of: own, suspended: true });
      const spot = (await living("market")).map(({ InstanceLifecycle }) => InstanceLifecycle === "spot");
      assert.deepEqual(spot.filter(Boolean).length, 1);
    });
  });

  describe("answers that come late or not at all", () => {
    test("a throttled call is made again; throttled for long, it says so", async () => {
      const failed = failing(relay, "ec2:DescribeInstances", "RequestLimitExceeded", { status: 503, times: 2 });
      assert.deepEqual(await hypervisor.list("nobody"), []);
      assert.equal(failed(), 2);
    });

    test("a launch whose answer was lost is one launch", async () => {
      let lost = 0;
      relay.intercept.add(async ({ action }, pass) => {
        if (action !== "ec2:RunInstances" || lost > 0) return undefined;
        lost += 1;
        await pass();
        return "lost";
      });
      await launch("lost");
      assert.equal(lost, 1);
      assert.equal((await living("lost")).length, 1);
    });

    test("a machine that is not shown yet is waited for, and not launched again", async () => {
      let hidden = 0;
      relay.intercept.add(({ action }) => {
        if (
          action !== "ec2:DescribeInstances" ||
          calls("RunInstances").at(-1)?.fields.get("TagSpecification.1.Tag.1.Value") !== "late"
        )
          return undefined;
        hidden += 1;
        return hidden <= 4 ? { status: 200, body: NOTHING_DESCRIBED } : undefined;
      });
      await launch("late");
      assert.ok(hidden > 4);
      assert.equal((await living("late")).length, 1);
    });

    test("two who cannot see each other's launch for one key keep the same machine, and one alone", async () => {
      relay.keepsTokens = false;
      // Neither has looked after the other has launched.
      let waiting = 0;
      const bothAsk = Promise.withResolvers<void>();
      relay.intercept.add(async ({ action }) => {
        if (action !== "ec2:RunInstances") return undefined;
        waiting += 1;
        if (waiting === 2) bothAsk.resolve();
        await bothAsk.promise;
        return undefined;
      });
      const both = await Promise.allSettled([open(), open()].map((of) => launch("twins", { of, operation: "twins/1" })));
      const { name } = await launch("twins", { operation: "twins/1" });
      for (const one of both) assert.ok(one.status === "fulfilled" ? one.value.name === name : one.reason.retryable);
      assert.ok(both.some(({ status }) => status === "fulfilled"));
      assert.deepEqual(
        (await living("twins")).map(({ InstanceId }) => InstanceId),
        [name],
      );
    });

    test("a token that another request was made with is that launch", async () => {
      const first = await launch("token", { operation: "token/1" });
      let asked = 0;
      const own = open();
      relay.intercept.add(({ action }) => {
        if (action !== "ec2:DescribeInstances") return undefined;
        asked += 1;
        return asked <= 2 ? { status: 200, body: NOTHING_DESCRIBED } : undefined;
      });
      failing(relay, "ec2:RunInstances", "IdempotentParameterMismatch");
      assert.equal((await launch("token", { of: own, operation: "token/1" })).name, first.name);
      assert.equal((await living("token")).length, 1);
    });
  });

  describe("machines that vanish", () => {
    const vanish = async (name: string) => void (await ec2.send(new TerminateInstancesCommand({ InstanceIds: [name] })));

    test("one that serves is listed no more, and no order reaches it", async () => {
      const { name } = await launch("vanish");
      await vanish(name);
      assert.deepEqual(await hypervisor.list("vanish"), []);
      await assert.rejects(hypervisor.suspend({ operation: "vanish/suspend", name }), codeIs("UNKNOWN_ENDPOINT"));
      await hypervisor.terminate({ operation: "vanish/end", name });
    });

    test("one that ends while it boots is a failed launch, and the next attempt with the key launches another", async () => {
      let ended: string | undefined;
      relay.intercept.add(async ({ action }, pass) => {
        if (action !== "ec2:RunInstances" || ended !== undefined) return undefined;
        const answer = await pass();
        ended = /<instanceId>(i-\w+)</.exec(answer.body)?.[1];
        await vanish(ended ?? "");
        return answer;
      });
      const failed = launch("stillborn", { operation: "stillborn/1" });
      await assert.rejects(failed, (error: ForeshiftError) => error.code === "CLOUD_FAILED" && error.retryable);
      const second = await launch("stillborn", { operation: "stillborn/1" });
      assert.ok(second.state === "running" && second.name !== ended);
    });
  });

  test("what an abandoned launch left is ended by the next one, and was never a machine of the swarm", async () => {
    failing(relay, "ec2:CreateTags", "UnauthorizedOperation", { status: 403 });
    await assert.rejects(launch("abandoned"), codeIs("UNAUTHORISED"));
    assert.equal((await living("abandoned")).length, 1);
    assert.deepEqual(await hypervisor.list("abandoned"), []);
    await launch("abandoned");
    assert.equal((await living("abandoned")).length, 2, "it may be under way still");
    const { name } = await launch("abandoned", { of: open({}, { abandonedAfterMs: 0 }) });
    const left = (await living("abandoned")).map(({ InstanceId }) => InstanceId);
    assert.ok(left.length === 2 && left.includes(name));
  });

  test("what is asked of many goes out as one call; where one of them cannot, only that one fails", async () => {
    const names = (await Promise.all([1, 2, 3].map(async () => await launch("many")))).map(({ name }) => name);
    const [stuck = ""] = names;
    const before = calls("TerminateInstances").length;
    const holds = (fields: URLSearchParams) => [...fields.values()].includes(stuck);
    relay.intercept.add(({ action, fields }) =>
      action === "ec2:TerminateInstances" && holds(fields) ? awsError("OperationNotPermitted") : undefined,
    );
    const ends = await Promise.allSettled(names.map((name) => hypervisor.terminate({ operation: `many/end/${name}`, name })));
    assert.deepEqual(
      ends.map(({ status }) => status),
      ["rejected", "fulfilled", "fulfilled"],
    );
    assert.deepEqual(
      (await living("many")).map(({ InstanceId }) => InstanceId),
      [stuck],
    );
    assert.equal(calls("TerminateInstances").length, before + 1 + names.length);
    relay.reset();
    await hypervisor.terminate({ operation: "many/end", name: stuck });
    assert.equal((await living("many")).length, 0);
  });

  test("whoever lists at the same time shares one description, whatever the number of machines and pages", async () => {
    const Tags = ["swarm", "booted"].map((key) => ({ Key: `foreshift:${key}`, Value: "pages" }));
    const TagSpecifications = [{ ResourceType: "instance" as const, Tags }];
    const LaunchTemplate = { LaunchTemplateId: config.launchTemplate.id };
    const one = { LaunchTemplate, MinCount: 1, MaxCount: 1, TagSpecifications };
    for (let number = 0; number < 6; number += 1) await ec2.send(new RunInstancesCommand(one));
    const paged = open({}, { pageSize: 5 });
    const before = calls("DescribeInstances").length;
    const lists = await Promise.all(Array.from({ length: 20 }, () => paged.list("pages")));
    assert.equal(calls("DescribeInstances").length, before + 2, "two pages");
    assert.ok(lists.every((machines: readonly Machine[]) => machines.length === 6));
  });

  test("a ghost that hibernates is launched for it, and stopped so", async () => {
    const own = open({ ghosts: "hibernate" });
    assert.equal((await launch("hibernate", { of: own, suspended: true })).state, "suspended");
    assert.equal(calls("StopInstances").at(-1)?.fields.get("Hibernate"), "true");
    await launch("hibernate", { suspended: true });
    assert.equal(calls("StopInstances").at(-1)?.fields.has("Hibernate"), false);
  });

  test("a machine counts as booted after EC2's own checks, where that is asked for", async () => {
    const before = calls("DescribeInstanceStatus").length;
    await launch("checked", { of: open({ booted: "status-checks" }) });
    assert.equal(calls("DescribeInstanceStatus").length, before + 1);
  });

  test("a machine counts as booted once its agent listens, and a ghost as awake", async () => {
    let listens = false;
    const asked: string[] = [];
    const look = async (where: string) => {
      asked.push(where);
      return listens;
    };
    const own = open({ booted: "agent" }, { answers: look });
    const first = launch("agent", { of: own, operation: "agent/1", suspended: true });
    await eventually("it is looked for", () => asked.length > 2, 10_000);
    assert.deepEqual(await own.list("agent"), [], "while it boots it is no machine of the swarm");
    listens = true;
    const { name, link, state } = await first;
    assert.deepEqual([state, asked[0]], ["suspended", link.agent]);
    asked.length = 0;
    await own.resume({ operation: "agent/wake", name });
    assert.deepEqual(asked, [link.agent], "a ghost is awake when its agent is");
  });

  test("an agent listens where connections are taken", async () => {
    const server = createServer((socket) => socket.destroy()).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    assert.equal(await answers(`127.0.0.1:${port}`), true);
    server.close();
    await once(server, "close");
    assert.equal(await answers(`127.0.0.1:${port}`), false);
  });

  test("repair opens its links and starts it anew; one that stands still is started", async () => {
    const { name } = await launch("repair");
    await hypervisor.repair({ operation: "repair/1", name });
    await hypervisor.repair({ operation: "repair/1", name });
    assert.equal(calls("RebootInstances").length, 1, "once for its key");
    await hypervisor.suspend({ operation: "repair/stop", name });
    await hypervisor.repair({ operation: "repair/2", name });
    assert.equal((await hypervisor.list("repair"))[0]?.state, "running");
  });

  test("wrong credentials and wrong templates are no matter of trying again", async () => {
    failing(relay, "ec2:RunInstances", "UnauthorizedOperation", { status: 403 });
    await assert.rejects(launch("wrong"), (error: ForeshiftError) => error.code === "UNAUTHORISED" && !error.retryable);
    relay.reset();
    failing(relay, "ec2:RunInstances", "InvalidLaunchTemplateId.NotFound");
    await assert.rejects(launch("wrong"), (error: ForeshiftError) => error.code === "CLOUD_REFUSED" && !error.retryable);
  });

  test("what EC2 says beforehand becomes evidence on that machine alone", async () => {
    const own = open({ market: "spot" });
    const [spot, planned, impaired, well] = await Promise.all([1, 2, 3, 4].map(async () => await launch("told", { of: own })));
    const names = [spot, planned, impaired, well].map((machine) => machine?.name ?? "");
    const soon = new Date(Date.now() + 300_000).toISOString();
    relay.intercept.add(({ action }) => {
      if (action === "ec2:DescribeSpotInstanceRequests") return { status: 200, body: spotMarked(names[0] ?? "") };
      if (action === "ec2:DescribeInstanceStatus") return { status: 200, body: statuses(names[1] ?? "", soon, names[2] ?? "") };
      return undefined;
    });
    const notices = (await own.notices?.("told")) ?? [];
    assert.deepEqual(
      new Map(notices.map(({ machine, kind }) => [kind, names.indexOf(machine)])),
      new Map([
        ["maintenance", 1],
        ["host-impaired", 2],
        ["interruption", 0],
      ]),
    );
    const now = Date.now();
    const risk = (name: string) => outsideRisk(noticeEvents(notices, name, now), { region: config.region }, now, 600_000);
    assert.ok(names.slice(0, 3).every((name) => risk(name).value >= 0.9));
    assert.equal(risk(names[3] ?? "").value, 0);
    assert.match(risk(names[1] ?? "").terms[0]?.text ?? "", /EC2 has planned instance-retirement/);
  });

  test("its policy allows every call that was made here, and nothing else", async () => {
    // Tags at launch are a right of their own, and so is handing the launch template's profile to the machine; neither is a call.
    await assertAllowsExactly("hypervisor.json", relay.calls, ["iam:PassRole"]);
  });
}

const NOTHING_DESCRIBED =
  '<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>0</requestId><reservationSet/></DescribeInstancesResponse>';

function spotMarked(instance: string): string {
  return `<DescribeSpotInstanceRequestsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><spotInstanceRequestSet><item>
    <spotInstanceRequestId>sir-1</spotInstanceRequestId><instanceId>${instance}</instanceId><state>active</state>
    <status><code>marked-for-termination</code><message>It will be terminated in two minutes.</message></status>
    </item></spotInstanceRequestSet></DescribeSpotInstanceRequestsResponse>`;
}

function statuses(planned: string, notBefore: string, impaired: string): string {
  const ok = "<status>ok</status>";
  const event = `<eventsSet>
    <item><instanceEventId>e-1</instanceEventId><code>instance-retirement</code><description>Its host is to go.</description><notBefore>${notBefore}</notBefore></item>
    <item><instanceEventId>e-2</instanceEventId><code>system-reboot</code><description>[Completed] It is done.</description></item></eventsSet>`;
  const item = (id: string, system: string, more = "") =>
    `<item><instanceId>${id}</instanceId>${more}<systemStatus>${system}</systemStatus><instanceStatus>${ok}</instanceStatus></item>`;
  return `<DescribeInstanceStatusResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><instanceStatusSet>
    ${item(planned, ok, event)}${item(impaired, "<status>impaired</status>")}</instanceStatusSet></DescribeInstanceStatusResponse>`;
}
