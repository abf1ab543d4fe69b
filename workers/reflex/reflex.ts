/**
 * The reflex: holds the packet path to the desired state, probes the members, and puts out one that is dead, with its sessions to their
 * shadows, without asking anybody.
 */
import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import type { ProcessIdentity } from "../../drivers/identity/process-identity.ts";
import type { Operation } from "../../drivers/ports.ts";
import { type KeyPair, keyPairOf } from "../../drivers/tunnel/wireguard-probe-crypto.ts";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import type { SessionState } from "../../models/session.ts";
import type { Member, MemberHealth, ProbeStats, ReflexEvent, SteeringState } from "../../models/steering.ts";
import { Agents } from "./agents.ts";
import { checkSteering } from "./check-steering.ts";
import type { ReflexConfig } from "./config.ts";
import { Dataplane } from "./dataplane.ts";
import { EventJournal } from "./event-journal.ts";
import { Failover } from "./failover.ts";
import { KeptFile, readJson, readWhole, writeWhole } from "./files.ts";
import { PathKeeper } from "./path-keeper.ts";
import { MemberProber, type ProberTarget } from "./prober.ts";
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
  readonly #failover: Failover;
  readonly #events: EventJournal;
  readonly #probers = new Map<string, MemberProber>();
  #key: KeyPair | undefined;
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
    this.#agents = new Agents(state, identity);
    this.#failover = new Failover({
      state,
      book,
      path: this.#path,
      agents: this.#agents,
      events: this.#events,
      revocations: this.#revocations,
      save: () => this.#stateFile.save(),
      throughput: () => this.#plane.throughput(),
      lastAnswerAtMs: (endpoint) => this.#probers.get(endpoint)?.inner(Date.now()).lastAnswerAtMs,
      log,
    });
    book.onReport = (session) => this.#failover.reported(session);
    book.onMoved = (sessions) => this.#inBackground("route", () => this.#path.routeTo(sessions));
  }

  /** Reads what was kept; touches nothing. */
  async load(): Promise<void> {
    await mkdir(this.#config.stateDir, { recursive: true, mode: 0o700 });
    this.#key = await this.#loadKey();
    const kept = await readJson(join(this.#config.stateDir, "state.json"), ReflexStateFile);
    if (kept !== undefined) this.#state.load(kept);
    this.#book.load((await readJson(join(this.#config.stateDir, "sessions.json"), SessionsFile)) ?? []);
    await this.#events.load();
  }

  /** Brings the packet path to the kept desired state and begins to probe. */
  async start(): Promise<void> {
    const { desired } = this.#state;
    if (desired !== undefined) await this.#resume(desired);
    this.#timers = [
      setInterval(() => this.#tidy(), LIMITS.reflex.tidyIntervalMs),
      setInterval(() => this.#verify(), LIMITS.reflex.verifyIntervalMs),
      setInterval(() => void this.#countReturned(), LIMITS.reflex.countIntervalMs),
    ];
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#failover.close();
    for (const prober of this.#probers.values()) prober.close();
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
      const prober = this.#probers.get(endpoint);
      if (prober === undefined) return [];
      const record = this.#state.record(endpoint);
      return [
        {
          endpoint,
          weight,
          draining,
          effectiveWeight: weights.get(endpoint) ?? 0,
          inner: prober.inner(nowMs),
          outer: prober.outer(nowMs),
          ejected: record.ejectedAtMs !== undefined,
          ejectedAtMs: record.ejectedAtMs,
          ejections: record.ejections,
          overloaded: record.overloadedAtMs !== undefined,
          sessions: sessions.get(endpoint) ?? 0,
        },
      ];
    });
  }

  /** Its probes of one endpoint; undefined of one that it does not probe. */
  probesOf(endpoint: string): { readonly inner: ProbeStats; readonly outer: ProbeStats } | undefined {
    const prober = this.#probers.get(endpoint);
    if (prober === undefined) return undefined;
    const nowMs = Date.now();
    return { inner: prober.inner(nowMs), outer: prober.outer(nowMs) };
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

  journal(): readonly Executed[] {
    return [...this.#state.operations.values()];
  }

  probePeers(): readonly { publicKey: string; innerAddresses: readonly string[] }[] {
    const innerAddresses = this.#state.desired?.members.map((member) => member.link.probeInnerAddress) ?? [];
    if (this.#key === undefined || innerAddresses.length === 0) return [];
    return [{ publicKey: this.#key.publicKey.toString("base64"), innerAddresses }];
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
    this.#syncProbers(next);
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
    this.#syncProbers(desired);
    this.#failover.resume(desired);
  }

  #syncProbers(desired: SteeringState): void {
    const members = new Map(desired.members.map((member) => [member.endpoint, member]));
    for (const [endpoint, prober] of this.#probers) {
      const member = members.get(endpoint);
      if (member !== undefined && prober.retarget(this.#probeTarget(member, desired))) continue;
      prober.close();
      this.#probers.delete(endpoint);
    }
    const key = this.#key;
    if (key === undefined) return;
    for (const [endpoint, member] of members) {
      if (this.#probers.has(endpoint)) continue;
      const listener = {
        answered: (name: string) => this.#failover.answered(name),
        missed: (name: string, refused: boolean) => this.#failover.missed(name, refused),
      };
      this.#probers.set(endpoint, new MemberProber(this.#probeTarget(member, desired), key, listener));
    }
    this.#inBackground("close-agents", () => this.#agents.sync());
    this.#book.forgetBeyond(new Set(members.keys()));
  }

  #probeTarget(member: Member, desired: SteeringState): ProberTarget {
    const { endpoint, link } = member;
    const { outlier: policy, swarmPort, swarmPublicKey, vip } = desired;
    return { endpoint, link, port: swarmPort ?? vip.port, swarmPublicKey, policy, echo: this.#config.probeEcho };
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
      if (await this.#path.push()) this.#log.warn({ event: "packet-path-repaired" });
    });
  }

  async #loadKey(): Promise<KeyPair> {
    const path = join(this.#config.stateDir, "probe.key");
    const kept = await readWhole(path);
    const raw = kept === undefined ? randomBytes(32) : Buffer.from(kept.trim(), "base64");
    if (kept === undefined) await writeWhole(path, `${raw.toString("base64")}\n`);
    if (raw.length !== 32)
      throw new ForeshiftError("INVALID_FIELD", { field: path, value: "a file", detail: "expected 32 bytes in base64" });
    return keyPairOf(raw);
  }

  #inBackground(what: string, task: () => Promise<unknown>): void {
    task().catch((thrown: unknown) => this.#path.failed(what, thrown));
  }

  eventsAfter(after: number, waitMs: number): Promise<readonly ReflexEvent[]> {
    return this.#events.after(after, Math.min(waitMs, LIMITS.reflex.eventsWaitMsMax));
  }
}
