/**
 * The reflex: holds the packet path to the desired state, probes the members, and puts out one that is dead, with its sessions to their
 * shadows, without asking anybody.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import { dialAgent } from "../../drivers/identity/dial.ts";
import type { ProcessIdentity } from "../../drivers/identity/process-identity.ts";
import type { Operation } from "../../drivers/ports.ts";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import type { SteeringWord } from "../../models/ipsec/wire.ts";
import { LIMITS } from "../../models/limits.ts";
import type { SessionState } from "../../models/session.ts";
import type { MemberHealth, ProbeStats, ReflexEvent, SteeringState } from "../../models/steering.ts";
import { Agents } from "./agents.ts";
import { checkSteering } from "./check-steering.ts";
import type { ReflexConfig } from "./config.ts";
import { Dataplane } from "./dataplane.ts";
import { EventJournal } from "./event-journal.ts";
import { Failover } from "./failover.ts";
import { KeptFile, readJson } from "./files.ts";
import { IpsecFailover } from "./ipsec.ts";
import { PathKeeper } from "./path-keeper.ts";
import { Probers } from "./probers.ts";
import { Revocations } from "./revocations.ts";
import { designatedShadow, SessionBook, SessionsFile } from "./session-book.ts";
import { type Executed, ReflexState, ReflexStateFile, type StateMark } from "./state.ts";
import { weightsInForce } from "./view.ts";

export class Reflex {
  readonly #config: ReflexConfig;
  readonly #log: Logger;
  readonly #state = new ReflexState();
  readonly #stateFile: KeptFile;
  readonly #sessionsFile: KeptFile;
  readonly #book = new SessionBook();
  readonly #revocations = new Revocations();
  readonly #plane: Dataplane;
  readonly #path: PathKeeper;
  readonly #agents: Agents;
  readonly #ipsec: IpsecFailover;
  readonly #failover: Failover;
  readonly #events: EventJournal;
  readonly #probers: Probers;
  #applying: Promise<unknown> = Promise.resolve();
  #timers: NodeJS.Timeout[] = [];
  #returned: { readonly atMs: number; readonly packets: ReadonlyMap<number, number> } | undefined;
  #tidying = false;
  #counting = false;

  constructor(config: ReflexConfig, log: Logger, identity?: ProcessIdentity) {
    this.#config = config;
    this.#log = log;
    const state = this.#state;
    const book = this.#book;
    this.#plane = new Dataplane(config);
    this.#events = new EventJournal(join(config.stateDir, "events.ndjson"), log);
    this.#stateFile = new KeptFile(join(config.stateDir, "state.json"), () => state.snapshot());
    this.#sessionsFile = new KeptFile(join(config.stateDir, "sessions.json"), () => book.all());
    this.#path = new PathKeeper({ state, book, plane: this.#plane, log });
    this.#agents = new Agents(() => state.desired?.members ?? [], identity && ((endpoint) => dialAgent(identity, endpoint)));
    this.#ipsec = new IpsecFailover({
      state,
      book: state.ipsec,
      stateDir: config.stateDir,
      agentOf: (endpoint) => this.#agents.of(endpoint),
      leaving: (member) => this.#agents.leaving(member),
      push: () => this.#path.push(),
      routeTo: (sessions) => this.#path.routeTo(sessions),
      passed: () => this.#plane.passed(),
      events: this.#events,
      log,
    });
    this.#failover = new Failover({
      state,
      book,
      path: this.#path,
      agents: this.#agents,
      events: this.#events,
      revocations: this.#revocations,
      ipsec: this.#ipsec,
      save: () => this.#stateFile.save(),
      throughput: () => this.#plane.throughput(),
      lastAnswerAtMs: (endpoint) => this.#probers.of(endpoint, Date.now())?.inner.lastAnswerAtMs,
      log,
    });
    this.#probers = new Probers(config.probeEcho, this.#failover);
    book.onReport = (session) => this.#failover.reported(session);
    book.onMoved = (sessions) => this.#inBackground("route", () => this.#path.routeTo(sessions));
  }

  /** Reads what was kept; touches nothing. */
  async load(): Promise<void> {
    await mkdir(this.#config.stateDir, { recursive: true, mode: 0o700 });
    await this.#probers.load(this.#config.stateDir);
    const kept = await readJson(join(this.#config.stateDir, "state.json"), ReflexStateFile);
    if (kept !== undefined) this.#state.load(kept);
    this.#book.load((await readJson(join(this.#config.stateDir, "sessions.json"), SessionsFile)) ?? []);
    await this.#ipsec.load();
    await this.#events.load();
  }

  /** Brings the packet path to the kept desired state and begins to probe. */
  async start(): Promise<void> {
    const { desired } = this.#state;
    if (desired !== undefined) await this.#resume(desired);
    this.#agents.keepWarm();
    this.#timers = [
      setInterval(() => this.#tidy(), LIMITS.reflex.tidyIntervalMs),
      setInterval(() => this.#verify(), LIMITS.reflex.verifyIntervalMs),
      setInterval(() => void this.#countReturned(), LIMITS.reflex.countIntervalMs),
    ];
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#failover.close();
    this.#probers.close();
    await Promise.allSettled([this.#events.close(), this.#stateFile.save(), this.#sessionsFile.save(), this.#agents.close()]);
  }

  get desired(): SteeringState | undefined {
    return this.#state.desired;
  }

  /** Applies a newer desired state. The same operation again changes nothing. */
  apply(request: SteeringState & Operation): Promise<{ epoch: number; changed: boolean }> {
    const turn = this.#applying.then(() => this.#apply(request));
    this.#applying = turn.catch(() => undefined);
    return turn;
  }

  health(): readonly MemberHealth[] {
    const { desired } = this.#state;
    if (desired === undefined) return [];
    const nowMs = Date.now();
    const weights = weightsInForce(this.#state, desired, nowMs);
    const sessions = this.#book.counts(nowMs);
    return desired.members.flatMap(({ endpoint, weight, draining }) => {
      const probes = this.#probers.of(endpoint, nowMs);
      if (probes === undefined) return [];
      const record = this.#state.record(endpoint);
      return [
        {
          endpoint,
          weight,
          draining,
          effectiveWeight: weights.get(endpoint) ?? 0,
          ...probes,
          ejected: record.ejectedAtMs !== undefined,
          ejectedAtMs: record.ejectedAtMs,
          ejections: record.ejections,
          overloaded: record.overloadedAtMs !== undefined,
          sessions: sessions.get(endpoint) ?? 0,
          ipsecSessions: this.#state.ipsec.countOf(endpoint),
        },
      ];
    });
  }

  /** Its probes of one endpoint; undefined of one that it does not probe. */
  probesOf(endpoint: string): { readonly inner: ProbeStats; readonly outer: ProbeStats } | undefined {
    return this.#probers.of(endpoint, Date.now());
  }

  /** Packets that the router has sent to the endpoint, and when they were counted (Unix milliseconds); undefined before the first count. */
  sentTo(endpoint: string): { readonly packets: number; readonly atMs: number } | undefined {
    const packets = this.#returned?.packets.get(this.slotOf(endpoint) ?? -1);
    return packets === undefined || this.#returned === undefined ? undefined : { packets, atMs: this.#returned.atMs };
  }

  sessions(): readonly SessionState[] {
    const fit = this.#state.fit();
    return [...this.#book.current(Date.now()).values()].map((session) => {
      const { shadow: _, ...rest } = session;
      const shadow = designatedShadow(session, fit);
      return shadow === undefined ? rest : { ...rest, shadow };
    });
  }

  isRevoked(endpoint: string): boolean {
    return this.#state.isRevoked(endpoint);
  }

  /** `revocations`: the newest one that the endpoint knows of, by its revision. */
  putSessions(endpoint: string, sessions: readonly SessionState[], revocations: number): void {
    this.#revocations.heard(endpoint, revocations);
    this.#book.put(endpoint, sessions);
  }

  /** NOT_READY where this balancer steers no IPsec. */
  async putIpsec(endpoint: string, word: SteeringWord): Promise<void> {
    if (!this.#config.ipsec)
      throw new ForeshiftError("NOT_READY", { value: "IPsec", detail: "this balancer does not steer it" });
    await this.#ipsec.heard(endpoint, word);
  }

  journal(): readonly Executed[] {
    return [...this.#state.operations.values()];
  }

  probePeers(): readonly { publicKey: string; innerAddresses: readonly string[] }[] {
    const innerAddresses = this.#state.desired?.members.map((member) => member.link.probeInnerAddress) ?? [];
    const { publicKey } = this.#probers;
    return publicKey === undefined || innerAddresses.length === 0 ? [] : [{ publicKey, innerAddresses }];
  }

  steerCounters(): Promise<ReadonlyMap<string, number>> {
    return this.#state.desired === undefined ? Promise.resolve(new Map()) : this.#plane.counters();
  }

  slotOf(endpoint: string): number | undefined {
    return this.#state.slots.get(endpoint);
  }

  get inPanic(): boolean {
    return this.#failover.inPanic;
  }

  async #apply(request: SteeringState & Operation): Promise<{ epoch: number; changed: boolean }> {
    const { operation, ...next } = request;
    const before = this.#state.desired;
    const done = this.#state.operations.get(operation);
    if (done !== undefined) {
      this.#state.operations.set(operation, { ...done, asked: done.asked + 1 });
      return { epoch: before?.epoch ?? done.epoch, changed: false };
    }
    checkSteering(next);
    if (before !== undefined && before.swarm !== next.swarm) {
      const detail = `this balancer steers swarm ${before.swarm}`;
      throw new ForeshiftError("VIP_IN_USE", { field: "swarm", value: next.swarm, detail });
    }
    if (before !== undefined && next.epoch <= before.epoch) {
      throw new ForeshiftError("STALE_EPOCH", { field: "epoch", value: next.epoch, detail: `it holds epoch ${before.epoch}` });
    }
    if (before === undefined || JSON.stringify(before.vip) !== JSON.stringify(next.vip))
      await this.#plane.checkVip(next.swarm, next.vip);

    const kept = this.#state.mark();
    this.#take(before, next);
    this.#state.executed(operation, next.epoch, Date.now());
    try {
      this.#path.rebalance();
      // On disk before in the kernel: after a crash between the two, the restart goes on from here.
      await this.#stateFile.save();
      await this.#plane.refreshDevices();
      await this.#path.push();
      await this.#path.setNewRoutes(before, next);
      await this.#plane.forget(new Set([...kept.slots].flatMap(([name, mark]) => (this.#state.slots.has(name) ? [] : [mark]))));
    } catch (thrown) {
      await this.#takeBack(operation, kept);
      throw thrown;
    }
    const members = new Set(next.members.map(({ endpoint }) => endpoint));
    const left = before?.members.filter(({ endpoint }) => !members.has(endpoint)) ?? [];
    this.#inBackground("ipsec", () => this.#ipsec.leave(left, Date.now()));
    this.#followMembers(next);
    this.#failover.expel(next);
    this.#reportApplied(before, next);
    return { epoch: next.epoch, changed: true };
  }

  #take(before: SteeringState | undefined, next: SteeringState): void {
    this.#state.desired = next;
    this.#state.setMembers(next.members.map((member) => member.endpoint));
    // A controller that pins a client after an ejection knows better than the ejection.
    for (const pin of next.pins) if (this.#state.isFit(pin.endpoint)) this.#state.pins.delete(pin.client);
    this.#path.keepRemovedPins(before, next);
  }

  /** Everything as it was, slots included: what was learned under them stays right. */
  async #takeBack(operation: string, kept: StateMark): Promise<void> {
    this.#state.goBackTo(kept);
    this.#state.operations.delete(operation);
    try {
      await this.#stateFile.save();
      await this.#path.push();
    } catch (thrown) {
      this.#path.failed("put-back", thrown);
    }
  }

  #reportApplied(before: SteeringState | undefined, next: SteeringState): void {
    const details = {
      epoch: next.epoch,
      members: next.members.length,
      pins: next.pins.length,
      routes: next.returnRoutes.length,
    };
    const text = `epoch ${next.epoch} is in force: ${next.members.length} members, ${next.pins.length} pins`;
    this.#events.add(
      { kind: "desired-applied", endpoint: undefined, text, details: { ...details, first: before === undefined } },
      Date.now(),
    );
  }

  /** After a restart: what is right is left alone, what is missing is added. */
  async #resume(desired: SteeringState): Promise<void> {
    try {
      await this.#plane.refreshDevices();
      const changed = await this.#path.push();
      await this.#path.setMissingRoutes(desired);
      const text = changed
        ? "started again; the packet path was brought up to date"
        : "started again; the packet path was as it must be";
      this.#events.add(
        { kind: "restarted", endpoint: undefined, text, details: { epoch: desired.epoch, changed } },
        Date.now(),
      );
    } catch (thrown) {
      this.#path.failed("resume", thrown);
    }
    this.#followMembers(desired);
    this.#failover.resume(desired);
  }

  #followMembers(desired: SteeringState): void {
    this.#probers.sync(desired);
    this.#inBackground("close-agents", () => this.#agents.sync());
    const members = new Set(desired.members.map(({ endpoint }) => endpoint));
    this.#book.forgetBeyond(members);
    this.#state.ipsec.forgetBeyond(members, Date.now());
  }

  /** Weights that rise, sessions that shift the load, pins that have done their work, devices that came or went. */
  #tidy(): void {
    if (this.#tidying) return;
    this.#tidying = true;
    this.#inBackground("tidy", async () => {
      try {
        this.#failover.tick();
        if (this.#book.dirty) {
          this.#book.dirty = false;
          await this.#sessionsFile.save();
        }
        await this.#ipsec.save();
        const pins = this.#path.dropPins(Date.now());
        const buckets = this.#path.rebalance();
        const devices = this.#state.desired !== undefined && (await this.#plane.refreshDevices());
        if (!pins && !buckets && !devices && !this.#path.behind) return;
        await this.#path.push();
        await this.#stateFile.save();
      } finally {
        this.#tidying = false;
      }
    });
  }

  /** A count that took long to read is of no certain moment, and is left out. */
  async #countReturned(): Promise<void> {
    if (this.#state.desired === undefined || this.#counting) return;
    this.#counting = true;
    try {
      const beganAtMs = Date.now();
      const packets = await this.#plane.returned();
      const tookMs = Date.now() - beganAtMs;
      if (tookMs <= LIMITS.reflex.countTookMsMax) this.#returned = { atMs: beganAtMs + tookMs / 2, packets };
    } catch (thrown) {
      this.#log.warn({ event: "packets-not-counted", detail: messageOf(thrown) });
    } finally {
      this.#counting = false;
    }
  }

  #verify(): void {
    this.#plane.distrust();
    this.#inBackground("verify", async () => {
      if (!(await this.#path.push())) return;
      this.#ipsec.doubt();
      this.#log.warn({ event: "packet-path-repaired" });
    });
  }

  #inBackground(what: string, task: () => Promise<unknown>): void {
    task().catch((thrown: unknown) => this.#path.failed(what, thrown));
  }

  eventsAfter(after: number, waitMs: number): Promise<readonly ReflexEvent[]> {
    return this.#events.after(after, Math.min(waitMs, LIMITS.reflex.eventsWaitMsMax));
  }
}
