/** `foreshift bench`: measures what Foreshift promises, on a lab of its own, and prints JSON. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { ROTATION_FAULTS, type RotationFault } from "../bench/rotation-faults.ts";
import { TRIAL_KINDS, type TrialKind } from "../bench/trial-kinds.ts";
import { GUEST_PARTS, IPSEC_PARTS, type IpsecPart } from "../lab/ipsec/parts.ts";
import { LAB_HYPERVISORS, type LabHypervisor } from "../lab/machine-image.ts";
import { KEY_KINDS, type KeyKind } from "../models/keys.ts";
import { LIMITS } from "../models/limits.ts";
import { kindOf } from "./key-kind.ts";

interface ForesightArguments {
  readonly trials: number;
  readonly seed: number;
  readonly buildUp: number;
  readonly quiet: number;
  readonly endpoints: number;
  readonly sessions: number;
  readonly pps: number;
  readonly kinds: readonly [TrialKind, ...TrialKind[]];
}

/** A ghost and a replacement find room beside them. */
const ENDPOINTS_MAX = LIMITS.lab.endpointsMax - 4;
const SESSIONS_PER_ENDPOINT_MAX = 20;

export function register(program: Command): void {
  const bench = program.command("bench").description("measure what Foreshift promises");
  bench
    .command("handover")
    .description("what planned moves and crashes cost the clients, beside stock behaviour")
    .option("--moves <n>", "planned moves of a session, at least", whole, 50)
    .option("--clients <n>", "clients, each in a namespace of its own", whole, 6)
    .option("--sessions <n>", "sessions in all; more than clients means that clients share namespaces", whole)
    .option("--pps <n>", "numbered packets a second, for each session and direction", whole, 100)
    .option("--endpoints <n>", "endpoints; with 1 it holds every session, and a move moves them all", whole, 3)
    .option("--trials <n>", "crashes, freezes and zombies, each", whole, 10)
    .option("--stock-trials <n>", "crashes with stock behaviour", whole, 1)
    .option("--json", "JSON is what it prints anyway")
    .action(
      async (options: {
        moves: number;
        clients: number;
        sessions?: number;
        pps: number;
        endpoints: number;
        trials: number;
        stockTrials: number;
      }) => {
        const { benchHandover } = await import("../bench/handover.ts");
        show(await benchHandover({ ...options, sessions: options.sessions ?? options.clients, onProgress }));
      },
    );
  registerRotate(bench);
  registerIpsec(bench);
  registerGhosts(bench);
  bench
    .command("chaos")
    .description("kill anything at any point of a move, and count what was done twice or lost")
    .addOption(hypervisorOption())
    .option("--seed <n>", "the schedule of kills follows from it", whole, 1)
    .option("--rounds <n>", "moves, each with kills in it", whole, 5)
    .option("--json", "JSON is what it prints anyway")
    .action(async (options: { hypervisor: LabHypervisor; seed: number; rounds: number }) => {
      const { benchChaos } = await import("../bench/chaos.ts");
      show(await benchChaos({ ...options, onProgress }));
    });
  registerForesight(bench);
}

function registerForesight(bench: Command): void {
  bench
    .command("foresight")
    .description("faults that build up, with a swarm that reacts and with one that acts on predictions")
    .option("--trials <n>", "faults under each of the two", whole, 4)
    .option("--seed <n>", "kinds and places of the faults follow from it", whole, 1)
    .option(
      "--build-up <seconds>",
      "from a fault's beginning to the machine's failure",
      within(LIMITS.bench.buildUpSecondsMin, LIMITS.lab.faultSecondsMax),
      LIMITS.lab.buildUpSecondsDefault,
    )
    .option("--quiet <seconds>", "without a fault, under each of the two", whole, 60)
    .option("--endpoints <n>", "endpoints that serve", within(2, ENDPOINTS_MAX), 3)
    .option("--sessions <n>", "sessions on each endpoint", within(1, SESSIONS_PER_ENDPOINT_MAX), 2)
    .option(
      "--pps <n>",
      "numbered packets a second, for each session and direction",
      within(1, LIMITS.lab.packetsPerSecondMax),
      40,
    )
    .option("--kinds <list>", `of ${TRIAL_KINDS.join(",")}`, trialKinds, TRIAL_KINDS)
    .option("--json", "JSON is what it prints anyway")
    .action(async (options: ForesightArguments) => {
      const { benchForesight } = await import("../bench/foresight.ts");
      const { trials, seed, buildUp: buildUpSeconds, quiet: quietSeconds, endpoints, sessions, pps, kinds } = options;
      const sizes = { endpoints, sessionsPerEndpoint: sessions, packetsPerSecond: pps };
      show(await benchForesight({ trials, seed, buildUpSeconds, quietSeconds, ...sizes, kinds, onProgress }));
    });
}

function registerRotate(bench: Command): void {
  bench
    .command("rotate")
    .description("what rotations of keys cost the clients, under traffic")
    .option("--clients <n>", "clients, each in a namespace of its own", whole, 6)
    .option("--sessions <n>", "sessions in all; more than clients means that clients share namespaces", whole)
    .option("--pps <n>", "numbered packets a second, for each session and direction", whole, 100)
    .option("--rotations <n>", "of each kind of key", whole, 3)
    .option("-k, --kind <kind>", `only this kind: ${KEY_KINDS.join(", ")}`, kindOf)
    .option(
      "--faults [list]",
      `Vault fails in the midst of further ones, in each of these ways: ${ROTATION_FAULTS.join(",")}`,
      rotationFaults,
    )
    .option("--revocations <n>", "endpoints that are revoked, one after the other", whole, 1)
    .option("--json", "JSON is what it prints anyway")
    .action(async (options: RotateBenchOptions) => {
      const { benchRotate } = await import("../bench/rotate.ts");
      const { clients, faults = [], kind, sessions = clients } = options;
      const kinds = kind === undefined ? KEY_KINDS : [kind];
      const ways = faults === true ? ROTATION_FAULTS : faults;
      show(await benchRotate({ ...options, kinds, sessions, faults: ways, onProgress }));
    });
}

function registerGhosts(bench: Command): void {
  bench
    .command("ghosts")
    .description(
      "how fast an endpoint serves that is claimed: one that runs, one that was suspended, and one that has to be launched",
    )
    .addOption(hypervisorOption())
    .option("--trials <n>", "claims of a machine that runs, and of one that is suspended", within(1, LIMITS.bench.countMax), 20)
    .option("--cold-trials <n>", "launches", within(1, LIMITS.bench.countMax), 2)
    .option("--json", "JSON is what it prints anyway")
    .action(async (options: { hypervisor: LabHypervisor; trials: number; coldTrials: number }) => {
      const { benchGhosts } = await import("../bench/ghosts.ts");
      show(await benchGhosts({ ...options, onProgress }));
    });
}

function registerIpsec(bench: Command): void {
  bench
    .command("ipsec")
    .description("what taking IPsec sessions over costs, and whether a sequence number is ever used twice")
    .option("--crashes <n>", "crashes played on counters alone, at random points, rates and losses of updates", whole, 10_000)
    .option("--seed <n>", "those crashes follow from it", whole, 1)
    .option(
      "--trials <n>",
      "crashes and moves of gateways in a virtual machine, with stock clients in another; of other parts three at most",
      whole,
      0,
    )
    .option("--no-stock", "leaves out what the same client costs when nobody helps it")
    .addOption(new Option("--parts <part...>", "what is tried there").choices(IPSEC_PARTS).default(IPSEC_PARTS, "all"))
    .option("--json", "JSON is what it prints anyway")
    .action(async ({ crashes, seed, trials, stock, parts }: IpsecBenchOptions) => {
      const { benchIpsec } = await import("../bench/ipsec.ts");
      const { playInGuests } = await import("../bench/ipsec-guests.ts");
      const inGuests = GUEST_PARTS.filter((part) => parts.includes(part) && (stock || part !== "stock"));
      const onWire = trials === 0 || inGuests.length === 0 ? {} : await playInGuests({ trials, parts: inGuests, onProgress });
      const { benchReader } = await import("../bench/ipsec-reader.ts");
      const reader = trials > 0 && parts.includes("reader") ? { reader: await benchReader() } : {};
      show({ ...onWire, ...reader, ...benchIpsec({ crashes, seed }) });
    });
}

interface IpsecBenchOptions {
  readonly crashes: number;
  readonly seed: number;
  readonly trials: number;
  readonly stock: boolean;
  readonly parts: readonly IpsecPart[];
}

interface RotateBenchOptions {
  readonly clients: number;
  readonly sessions?: number;
  readonly pps: number;
  readonly rotations: number;
  readonly kind?: KeyKind;
  /** True: every way. */
  readonly faults?: true | readonly RotationFault[];
  readonly revocations: number;
}

function hypervisorOption(): Option {
  return new Option("--hypervisor <kind>", "what endpoints are").choices(LAB_HYPERVISORS).default("netns");
}

function show(figures: object): void {
  console.log(JSON.stringify(figures, null, 2));
}

function onProgress(text: string): void {
  console.error(`  ${text}`);
}

function whole(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 0 && value <= LIMITS.bench.countMax) return value;
  throw new InvalidArgumentError(`Expected a whole number from 0 to ${LIMITS.bench.countMax}.`);
}

function within(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`Expected a whole number from ${min} to ${max}.`);
  };
}

function rotationFaults(text: string): readonly RotationFault[] {
  return text.split(",").map((name) => {
    const fault = ROTATION_FAULTS.find((known) => known === name.trim());
    if (fault !== undefined) return fault;
    throw new InvalidArgumentError(`Expected some of ${ROTATION_FAULTS.join(", ")}, with commas between.`);
  });
}

function trialKinds(text: string): readonly [TrialKind, ...TrialKind[]] {
  const [first, ...others] = text.split(",").map((name) => {
    const kind = TRIAL_KINDS.find((known) => known === name.trim());
    if (kind === undefined) throw new InvalidArgumentError(`Expected some of ${TRIAL_KINDS.join(", ")}, with commas between.`);
    return kind;
  });
  if (first === undefined) throw new InvalidArgumentError("Expected at least one kind.");
  return [first, ...others];
}
