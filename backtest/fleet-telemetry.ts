/**
 * Telemetry of a fleet that is made up, second by second and from a seed: quiet, but as unquiet as real machines are. Round trips have
 * heavy tails, load comes in bursts that hit everybody, processes pause, caches fill and are emptied, agents are restarted by
 * rollouts and warm up while the others carry their sessions, neighbours steal CPU, probes are lost now and then, readings go missing.
 */
import { seededRandom } from "../models/random.ts";

/** What one endpoint shows in one second; a metric that is absent was not reported. */
export interface EndpointSecond {
  readonly endpoint: string;
  readonly series: Readonly<Record<string, number>>;
  /** Of the balancer's probes through the tunnel, over the window of the reflex. */
  readonly innerLoss: number;
  readonly innerRttMsP75: number;
  readonly innerRttMsMax: number;
  readonly sessions: number;
  readonly cpuShare: number;
  readonly cpuPressure: number;
  readonly heartbeatAgeMs: number;
}

/** Changes what an endpoint is going to show in a second. */
export type Fault = (second: number, endpoint: string, machine: MachineState) => void;

/** The causes that the metrics follow from; a fault changes these. */
export interface MachineState {
  /** Milliseconds added to every round trip, and what they are multiplied by. */
  delayMs: number;
  delayFactor: number;
  /** Added to the probability that a probe is lost. */
  lossShare: number;
  stealShare: number;
  /** Added to what is in use, share of the machine's memory. */
  memoryShare: number;
  /** Added to the CPU in use. */
  cpuShare: number;
  /** What sessions are multiplied by. */
  sessionsFactor: number;
}

export interface FleetOptions {
  readonly endpoints: number;
  readonly seed: number;
  /** Mean over a day, of one endpoint. */
  readonly sessionsMean: number;
  readonly probesPerS: number;
}

const DAY_S = 86_400;
const HOUR_S = 3_600;
/** The reflex judges by probes of so many seconds, agents by so many probes of a path. */
const PROBE_WINDOW_S = 3;
const PATH_PROBES = 30;

/** How often things happen in an hour (of the fleet, or of one endpoint), and how long they last on average, seconds. */
const COMMON = {
  burst: { perHour: 2, meanS: 40, leastS: 5 },
  loss: { perHour: 0.3, meanS: 2, leastS: 1 },
  delay: { perHour: 0.5, meanS: 30, leastS: 5 },
} as const;
const OWN = {
  pause: { perHour: 8, meanS: 1, leastS: 1 },
  queue: { perHour: 2, meanS: 4, leastS: 1 },
  neighbour: { perHour: 0.5, meanS: 20, leastS: 3 },
  silence: { perHour: 0.5, meanS: 3, leastS: 1 },
  restart: { perHour: 1 / 12, meanS: 5, leastS: 3 },
} as const;
/** A probe is lost for no reason. */
const PROBE_LOST = 1e-4;
/** Of one session; and losses from which their number is nearly normal. */
const PACKETS_PER_S = 20;
const LOST_MANY = 30;
/** After a restart memory fills up, and sessions come back, with these time constants. */
const WARM_UP_S = 150;
const RETURN_S = 120;
/** Of one session, share of the machine's memory; and what the heap grows by between two collections. */
const MEMORY_PER_SESSION = 1e-4;
const HEAP_SHARE = 0.02;
const SESSION_LIFE_S = 1_800;

/** Something that begins by chance, lasts, and ends. */
class Episode {
  /** 0 while nothing happens, else what was drawn when it began. */
  size = 0;
  #leftS = 0;
  readonly #random: () => number;
  readonly #kind: { readonly perHour: number; readonly meanS: number; readonly leastS: number };

  constructor(kind: { readonly perHour: number; readonly meanS: number; readonly leastS: number }, random: () => number) {
    this.#kind = kind;
    this.#random = random;
  }

  /** Whether it has just begun. `size` has a median of 1 and a heavy tail. */
  step(): boolean {
    const { perHour, meanS, leastS } = this.#kind;
    if (this.#leftS > 0) {
      this.#leftS--;
      if (this.#leftS === 0) this.size = 0;
      return false;
    }
    if (this.#random() >= perHour / HOUR_S) return false;
    this.#leftS = Math.ceil(leastS - Math.max(0, meanS - leastS) * Math.log(1 - this.#random()));
    this.size = Math.exp(0.5 * gauss(this.#random));
    return true;
  }
}

/** What all endpoints share: the hour of the day, bursts of demand, the network before the balancer. */
class Surroundings {
  readonly #random: () => number;
  readonly #burst: Episode;
  readonly #loss: Episode;
  readonly #delay: Episode;
  readonly #phase: number;
  #wander = 0;
  #ramp = 0;
  demand = 1;
  burst = 0;
  loss = 0;
  delay = 0;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
    this.#burst = new Episode(COMMON.burst, this.#random);
    this.#loss = new Episode(COMMON.loss, this.#random);
    this.#delay = new Episode(COMMON.delay, this.#random);
    this.#phase = this.#random() * 2 * Math.PI;
  }

  step(second: number): void {
    this.#wander += -this.#wander / 900 + 0.003 * gauss(this.#random);
    this.demand = Math.max(0.1, 1 + 0.4 * Math.sin((2 * Math.PI * second) / DAY_S + this.#phase) + this.#wander);
    this.#burst.step();
    this.#loss.step();
    this.#delay.step();
    // A burst builds up and dies away within seconds, not at once.
    this.#ramp += (this.#burst.size - this.#ramp) / 4;
    this.burst = this.#ramp;
    this.loss = Math.min(0.3, 0.04 * this.#loss.size);
    this.delay = this.#delay.size;
  }
}

/** A value that is remembered for the last few seconds, for what is measured over a window. */
class Window {
  readonly #values: Float64Array;
  #next = 0;

  constructor(length: number) {
    this.#values = new Float64Array(length);
  }

  push(value: number): void {
    this.#values[this.#next] = value;
    this.#next = (this.#next + 1) % this.#values.length;
  }

  mean(): number {
    let sum = 0;
    for (const value of this.#values) sum += value;
    return sum / this.#values.length;
  }

  max(): number {
    let most = 0;
    for (const value of this.#values) if (value > most) most = value;
    return most;
  }
}

class Machine {
  readonly endpoint: string;
  readonly #random: () => number;
  readonly #options: FleetOptions;
  readonly #pause: Episode;
  readonly #queue: Episode;
  readonly #neighbour: Episode;
  readonly #silence: Episode;
  readonly #restart: Episode;
  /** What differs between machines of one kind: where they are, how they are loaded, what runs beside the tunnel. */
  readonly #rttMs: number;
  readonly #cpuBase: number;
  readonly #memoryBase: number;
  readonly #share: number;
  readonly #heapPeriodS: number;
  #sessions: number;
  #heap = 0;
  #warm = 1;
  #back = 1;
  #silentS = 0;
  #led = 0;
  #rttNoise = 0;
  readonly #trips = new Window(PROBE_WINDOW_S);
  readonly #lost = new Window(PROBE_WINDOW_S);
  readonly #pathLost = new Window(PATH_PROBES);
  readonly state: MachineState = {
    delayMs: 0,
    delayFactor: 1,
    lossShare: 0,
    stealShare: 0,
    memoryShare: 0,
    cpuShare: 0,
    sessionsFactor: 1,
  };

  constructor(endpoint: string, seed: number, fleetRttMs: number, options: FleetOptions) {
    this.endpoint = endpoint;
    this.#options = options;
    this.#random = seededRandom(seed);
    const random = this.#random;
    for (let turn = 0; turn < 8; turn++) random();
    this.#pause = new Episode(OWN.pause, random);
    this.#queue = new Episode(OWN.queue, random);
    this.#neighbour = new Episode(OWN.neighbour, random);
    this.#silence = new Episode(OWN.silence, random);
    this.#restart = new Episode(OWN.restart, random);
    this.#rttMs = fleetRttMs * Math.exp(0.15 * gauss(random));
    this.#cpuBase = 0.1 + 0.1 * random();
    this.#memoryBase = 0.25 + 0.3 * random();
    this.#share = Math.exp(0.15 * gauss(random));
    this.#heapPeriodS = 60 + 900 * random();
    this.#sessions = Math.round(options.sessionsMean * this.#share);
  }

  step(around: Surroundings): EndpointSecond {
    const random = this.#random;
    this.#pause.step();
    this.#queue.step();
    this.#neighbour.step();
    if (this.#restart.step()) this.begin();
    if (this.#silence.step()) this.#silentS = 0;
    const isSilent = this.#silence.size > 0 || this.#restart.size > 0;
    this.#silentS = isSilent ? this.#silentS + 1 : 0;
    this.#warm += (1 - this.#warm) / WARM_UP_S;
    this.#back += (1 - this.#back) / RETURN_S;
    const sessions = this.#countSessions(around);
    const use = this.#resources(around, sessions);
    const rtt = this.#roundTrip(around, use.cpuShare, use.cpuStealShare);
    this.#probe(around);
    const wait = (scale: number, tail: number) => scale * Math.exp(tail * gauss(random)) * (1 + 4 * use.cpuStealShare);
    const pauseMs = 60 * this.#pause.size;
    const answerMs = wait(0.4, 0.4) + (random() < 0.3 ? pauseMs / 2 : 0);
    const lateMs = wait(1.5, 0.6) + pauseMs + 200 * Math.max(0, use.cpuStealShare - 0.1);
    const innerLoss = this.#lost.mean();
    const measured = {
      ...use,
      sessions,
      innerLossShare: innerLoss,
      innerRttMsP75: rtt,
      deviceAnswerMsMax: answerMs,
      agentLateMsMax: lateMs,
      "pathRttMs:balancer": rtt * 0.7 * Math.exp(0.1 * gauss(random)),
      "pathLossShare:balancer": this.#pathLost.mean(),
      carriedLossShare: this.#carriedLoss(around, sessions),
      memoryFullPressureShare: random() < 0.002 ? 0.01 * random() : 0,
      oomKillsPerS: 0,
      memoryUncorrectedErrorsPerS: 0,
      diskErrorsPerS: 0,
      thermalThrottlesPerS: 0,
    };

    return {
      endpoint: this.endpoint,
      series: isSilent ? {} : measured,
      innerLoss,
      innerRttMsP75: rtt,
      innerRttMsMax: this.#trips.max(),
      sessions,
      cpuShare: use.cpuShare,
      cpuPressure: use.cpuPressureShare,
      heartbeatAgeMs: 500 + 1_000 * this.#silentS,
    };
  }

  /** Its processes start anew; its sessions were led away before, and come back. */
  begin(): void {
    this.#warm = 0;
    this.#back = 0;
    this.#heap = 0;
    this.#led += this.#sessions;
    this.#sessions = 0;
  }

  /** Sessions that were led away from it since they were last asked for. */
  takeLed(): number {
    const led = this.#led;
    this.#led = 0;
    return led;
  }

  /** Sessions come over from another machine at once, and stay for as long as sessions do. */
  receive(sessions: number): void {
    this.#sessions += sessions;
  }

  /** They come by chance and leave by chance, around what is asked for. */
  #countSessions({ demand }: Surroundings): number {
    const wanted = this.#options.sessionsMean * this.#share * demand * this.#back;
    const rate = wanted / SESSION_LIFE_S + Math.max(0, wanted - this.#sessions) / 60;
    this.#sessions += poisson(rate, this.#random) - poisson(this.#sessions / SESSION_LIFE_S, this.#random);
    this.#sessions = Math.max(0, this.#sessions);
    return Math.round(this.#sessions * this.state.sessionsFactor);
  }

  #resources({ burst, demand }: Surroundings, sessions: number) {
    const random = this.#random;
    const { state } = this;
    const steal = 0.003 * random() ** 2 + 0.05 * this.#neighbour.size + state.stealShare;
    const stealShare = Math.min(1, steal);
    const load = this.#cpuBase + 0.15 * demand * this.#share + 0.12 * burst + state.cpuShare;
    const cpuShare = share(load * (1 + 0.08 * gauss(random)) + 0.1 * this.#pause.size);
    const cpuPressureShare = share(0.01 * Math.exp(0.7 * gauss(random)) + Math.max(0, cpuShare - 0.5) * 0.5 + 0.8 * stealShare);
    this.#heap += HEAP_SHARE / this.#heapPeriodS;
    if (this.#heap > HEAP_SHARE) this.#heap = 0;
    const own = this.#memoryBase * (0.4 + 0.6 * this.#warm);
    const memoryShare = share(own + this.#heap + MEMORY_PER_SESSION * sessions + 0.0005 * gauss(random) + state.memoryShare);
    return { cpuShare, cpuPressureShare, cpuStealShare: share(stealShare), memoryShare };
  }

  /** Upper quartile over the window: mostly the usual, with queues and what the path adds. */
  #roundTrip({ burst, delay }: Surroundings, cpuShare: number, stealShare: number): number {
    const random = this.#random;
    this.#rttNoise += -this.#rttNoise / 5 + 0.05 * gauss(random);
    const tail = random() < 0.004 ? Math.min(20, (1 - random()) ** -0.7) : 1;
    const busy = 1 + 0.2 * burst + 0.3 * delay + 0.5 * this.#queue.size + Math.max(0, cpuShare - 0.6) + 6 * stealShare ** 2;
    const trip = this.#rttMs * Math.exp(this.#rttNoise) * tail * busy * this.state.delayFactor + this.state.delayMs;
    this.#trips.push(trip);
    return this.#trips.mean();
  }

  /** Of the clients' own packets in this second. */
  #carriedLoss({ loss }: Surroundings, sessions: number): number {
    const packets = Math.max(1, sessions * PACKETS_PER_S);
    const lost = packets * this.#lossChance(loss);
    return share((lost > LOST_MANY ? lost + Math.sqrt(lost) * gauss(this.#random) : poisson(lost, this.#random)) / packets);
  }

  #lossChance(loss: number): number {
    return Math.min(1, PROBE_LOST + loss + this.state.lossShare);
  }

  #probe({ loss }: Surroundings): void {
    const chance = this.#lossChance(loss);
    let lost = 0;
    for (let probe = 0; probe < this.#options.probesPerS; probe++) if (this.#random() < chance) lost++;
    this.#lost.push(lost / this.#options.probesPerS);
    this.#pathLost.push(this.#random() < chance ? 1 : 0);
  }
}

export class FleetTelemetry {
  readonly #options: FleetOptions;
  readonly #around: Surroundings;
  readonly #fleetRttMs: number;
  readonly #fault: Fault | undefined;
  #machines: readonly Machine[];
  #made = 0;

  constructor(options: FleetOptions, fault?: Fault) {
    this.#options = options;
    this.#around = new Surroundings(options.seed * 7_919 + 1);
    this.#fleetRttMs = 3 + 12 * seededRandom(options.seed + 17)();
    this.#fault = fault;
    this.#machines = Array.from({ length: options.endpoints }, () => this.#make());
  }

  /** Another machine takes its place; it is cold, and its sessions come to it by and by. */
  replace(endpoint: string): string {
    const machine = this.#make();
    machine.begin();
    this.#machines = this.#machines.map((one) => (one.endpoint === endpoint ? machine : one));
    return machine.endpoint;
  }

  #make(): Machine {
    const seed = this.#options.seed * 104_729 + this.#made * 1_299_709 + 3;
    this.#made++;
    return new Machine(`ep-${this.#made}`, seed, this.#fleetRttMs, this.#options);
  }

  /** To be asked for one second after the other. */
  at(second: number): readonly EndpointSecond[] {
    this.#around.step(second);
    const seen = this.#machines.map((machine) => {
      this.#fault?.(second, machine.endpoint, machine.state);
      return machine.step(this.#around);
    });
    this.#leadOver();
    return seen;
  }

  /** The others take over what a machine had, in equal parts. */
  #leadOver(): void {
    for (const machine of this.#machines) {
      const led = machine.takeLed();
      const others = this.#machines.filter((other) => other !== machine);
      for (const [at, other] of others.entries()) other.receive(Math.floor((led + at) / others.length));
    }
  }
}

function share(value: number): number {
  return Math.min(1, Math.max(0, value));
}

/** Nearly normal: the sum of four uniform numbers, with deviation 1. */
function gauss(random: () => number): number {
  return (random() + random() + random() + random() - 2) * Math.sqrt(3);
}

/** Knuth's way; `mean` is small. */
function poisson(mean: number, random: () => number): number {
  const least = Math.exp(-mean);
  let product = random();
  let count = 0;
  while (product > least) {
    product *= random();
    count++;
  }
  return count;
}
