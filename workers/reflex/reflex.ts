/**
 * The reflex: holds the packet path to the desired state, probes the members, and puts out one that is dead, with its sessions to their
 * shadows, without asking anybody.
 */
import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import type { EndpointAgent, Operation } from "../../drivers/ports.ts";
import { agentClient } from "../../drivers/tunnel/agent-client.ts";
import { type KeyPair, keyPairOf } from "../../drivers/tunnel/wireguard-probe-crypto.ts";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { LIMITS } from "../../models/limits.ts";
import { afterAnswer, afterMiss, decideEjection, ejected, ejectionMs, mayReturn, returned } from "../../models/outlier.ts";
import type { SessionState } from "../../models/session.ts";
import type { Member, MemberHealth, ReflexEvent, SteeringState } from "../../models/steering.ts";
import { checkSteering } from "./check-steering.ts";
import type { ReflexConfig } from "./config.ts";
import { canonicalAddress, Dataplane } from "./dataplane.ts";
import { EventJournal } from "./event-journal.ts";
import { KeptFile, readJson, readWhole, writeWhole } from "./files.ts";
import { MemberProber, type ProberTarget } from "./prober.ts";
import { designatedShadow, SessionBook, SessionsFile } from "./session-book.ts";
import { type Executed, ReflexState, ReflexStateFile } from "./state.ts";
import { type Move, Takeover } from "./takeover.ts";
import { bucketsFor, viewOf, weightsInForce } from "./view.ts";

export class Reflex {
  readonly #config: ReflexConfig;
  readonly #log: Logger;
  readonly #state = new ReflexState();
  readonly #stateFile: KeptFile;
  readonly #sessionsFile: KeptFile;
  readonly #book = new SessionBook();
  readonly #plane: Dataplane;
  readonly #takeover: Takeover;
  readonly events: EventJournal;
  readonly #probers = new Map<string, MemberProber>();
  readonly #agents = new Map<
    string,
    { readonly socketPath: string; readonly client: EndpointAgent & { close(): Promise<void> } }
  >();
  /** Members whose ejection was refused since they last answered; said once. */
  readonly #refused = new Set<string>();
  #key: KeyPair | undefined;
  #panic = false;
  #applying: Promise<unknown> = Promise.resolve();
  #timers: NodeJS.Timeout[] = [];
  #tidying = false;
  /** The packet path may not be as it must be: the next look brings it there. */
  #behind = false;

  constructor(config: ReflexConfig, log: Logger) {
    this.#config = config;
    this.#log = log;
    this.#plane = new Dataplane(config);
    this.events = new EventJournal(join(config.stateDir, "events.ndjson"), log);
    this.#stateFile = new KeptFile(join(config.stateDir, "state.json"), () => this.#state.snapshot());
    this.#sessionsFile = new KeptFile(join(config.stateDir, "sessions.json"), () => this.#book.all());
    this.#takeover = new Takeover({
      agentOf: (endpoint) => this.#agentOf(endpoint),
      fit: () => this.#fit(),
      redirected: (moves) => this.#inBackground("redirect", () => this.#follow(moves)),
      ended: (from, moved, left, tookMs) => this.#takeoverEnded(from, moved, left, tookMs),
      log,
    });
    this.#book.onReport = (session) => this.#takeover.reported(session, Date.now());
    this.#book.onMoved = (sessions) => this.#inBackground("route", () => this.#plane.setRoutes(this.#routesOf(sessions)));
  }

  /** Reads what was kept; touches nothing. */
  async load(): Promise<void> {
    await mkdir(this.#config.stateDir, { recursive: true, mode: 0o700 });
    this.#key = await this.#loadKey();
    const kept = await readJson(join(this.#config.stateDir, "state.json"), ReflexStateFile);
    if (kept !== undefined) this.#state.load(kept);
    this.#book.load((await readJson(join(this.#config.stateDir, "sessions.json"), SessionsFile)) ?? []);
    await this.events.load();
  }

  /** Brings the packet path to the kept desired state and begins to probe. */
  async start(): Promise<void> {
    const { desired } = this.#state;
    if (desired !== undefined) await this.#resume(desired);
    this.#timers = [
      setInterval(() => this.#tidy(), LIMITS.reflex.tidyIntervalMs),
      setInterval(() => this.#verify(), LIMITS.reflex.verifyIntervalMs),
    ];
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    for (const prober of this.#probers.values()) prober.close();
    await Promise.allSettled([
      this.events.close(),
      this.#stateFile.save(),
      this.#sessionsFile.save(),
      ...[...this.#agents.values()].map(({ client }) => client.close()),
    ]);
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
    const sessions = this.#sessionCounts(nowMs);
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
          sessions: sessions.get(endpoint) ?? 0,
        },
      ];
    });
  }

  sessions(): readonly SessionState[] {
    const fit = this.#fit();
    return [...this.#book.current(Date.now()).values()].map((session) => {
      const { shadow: _, ...rest } = session;
      const shadow = designatedShadow(session, fit);
      return shadow === undefined ? rest : { ...rest, shadow };
    });
  }

  putSessions(endpoint: string, sessions: readonly SessionState[]): void {
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
    return this.#panic;
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

    const slotsBefore = new Map(this.#state.slots);
    this.#take(before, next);
    this.#state.executed(operation, next.epoch, Date.now());
    try {
      this.#rebalance();
      // On disk before in the kernel: after a crash between the two, the restart goes on from here.
      await this.#stateFile.save();
      await this.#plane.refreshDevices();
      await this.#push();
      await this.#plane.setRoutes(this.#newRoutes(before, next));
      await this.#plane.forget(
        new Set([...slotsBefore].flatMap(([endpoint, mark]) => (this.#state.slots.has(endpoint) ? [] : [mark]))),
      );
    } catch (thrown) {
      await this.#takeBack(operation, before);
      throw thrown;
    }
    this.#syncProbers(next);
    this.#reportApplied(before, next);
    return { epoch: next.epoch, changed: true };
  }

  #take(before: SteeringState | undefined, next: SteeringState): void {
    this.#state.desired = next;
    this.#state.setMembers(next.members.map((member) => member.endpoint));
    // A controller that pins a client after an ejection knows better than the ejection.
    for (const pin of next.pins) if (this.#isFit(pin.endpoint)) this.#state.pins.delete(pin.client);
    this.#keepRemovedPins(before, next);
  }

  /**
   * A pin that is no longer desired goes on until what was learned before it has expired: else the client's next handshake would go back
   * to where it came from. It leads to where the client's session lives by now.
   */
  #keepRemovedPins(before: SteeringState | undefined, next: SteeringState): void {
    const atMs = Date.now();
    const still = new Set(next.pins.map((pin) => pin.client));
    const byClient = new Map([...this.#book.current(atMs).values()].map((session) => [session.outerAddress, session]));
    for (const { client, endpoint } of before?.pins ?? []) {
      if (still.has(client) || this.#state.pins.has(client)) continue;
      const session = byClient.get(client);
      const holder = session?.endpoint ?? endpoint;
      if (!this.#state.slots.has(holder)) continue;
      this.#state.pins.set(client, { client, endpoint: holder, publicKey: session?.publicKey ?? "", atMs });
    }
  }

  async #takeBack(operation: string, before: SteeringState | undefined): Promise<void> {
    this.#state.desired = before;
    this.#state.operations.delete(operation);
    this.#state.setMembers(before?.members.map((member) => member.endpoint) ?? []);
    this.#behind = before !== undefined;
    await this.#stateFile
      .save()
      .catch((thrown: unknown) => this.#log.error({ event: "state-not-saved", detail: messageOf(thrown) }));
    if (before !== undefined) await this.#push().catch((thrown: unknown) => this.#failed("put-back", thrown));
  }

  #reportApplied(before: SteeringState | undefined, next: SteeringState): void {
    const details = {
      epoch: next.epoch,
      members: next.members.length,
      pins: next.pins.length,
      routes: next.returnRoutes.length,
    };
    const text = `epoch ${next.epoch} is in force: ${next.members.length} members, ${next.pins.length} pins`;
    this.events.add(
      { kind: "desired-applied", endpoint: undefined, text, details: { ...details, first: before === undefined } },
      Date.now(),
    );
  }

  /** Explicit ways back that were not asked for before: those that were may have been overtaken by what the router has learned. */
  #newRoutes(before: SteeringState | undefined, next: SteeringState): ReadonlyMap<string, number> {
    const known = new Map(before?.returnRoutes.map((route) => [route.innerAddress, route.endpoint]));
    return this.#routeMarks(next.returnRoutes.filter((route) => known.get(route.innerAddress) !== route.endpoint));
  }

  #routesOf(sessions: readonly SessionState[]): ReadonlyMap<string, number> {
    const routes = sessions.flatMap(({ innerAddresses, endpoint }) =>
      innerAddresses.map((innerAddress) => ({ innerAddress, endpoint })),
    );
    return this.#routeMarks(routes);
  }

  #routeMarks(routes: readonly { innerAddress: string; endpoint: string }[]): ReadonlyMap<string, number> {
    const marks = new Map<string, number>();
    for (const { innerAddress, endpoint } of routes) {
      const address = canonicalAddress(innerAddress.split("/")[0] ?? "");
      const mark = this.#state.slots.get(endpoint);
      if (address !== undefined && mark !== undefined && this.#state.record(endpoint).ejectedAtMs === undefined)
        marks.set(address, mark);
    }
    return marks;
  }

  /** After a restart: what is right is left alone, what is missing is added. */
  async #resume(desired: SteeringState): Promise<void> {
    try {
      await this.#plane.refreshDevices();
      const changed = await this.#push();
      await this.#plane.setRoutes(this.#routeMarks(desired.returnRoutes), true);
      const text = changed
        ? "started again; the packet path was brought up to date"
        : "started again; the packet path was as it must be";
      this.events.add({ kind: "restarted", endpoint: undefined, text, details: { epoch: desired.epoch, changed } }, Date.now());
    } catch (thrown) {
      this.#failed("resume", thrown);
    }
    this.#syncProbers(desired);
    this.#resumeTakeovers(desired);
  }

  /** Sessions whose new handshake was not seen before the restart; agents skip those that came in the meantime. */
  #resumeTakeovers(desired: SteeringState): void {
    const nowMs = Date.now();
    for (const { endpoint } of desired.members) {
      if (this.#state.record(endpoint).ejectedAtMs === undefined || !desired.outlier.takeover) continue;
      const moves = this.#takeover.assign(endpoint, this.#book.heldBy(endpoint, nowMs));
      this.#takeover.begin(moves, nowMs);
      if (moves.length > 0) this.#inBackground("resume-takeover", () => this.#follow(moves));
    }
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
        answered: (name: string) => this.#answered(name),
        missed: (name: string, refused: boolean) => this.#missed(name, refused),
      };
      this.#probers.set(endpoint, new MemberProber(this.#probeTarget(member, desired), key, listener));
    }
    for (const [endpoint, { socketPath, client }] of this.#agents) {
      if (members.get(endpoint)?.link.agent === socketPath) continue;
      this.#agents.delete(endpoint);
      this.#inBackground("close-agent", () => client.close());
    }
    this.#book.forgetBeyond(new Set(members.keys()));
  }

  #probeTarget(member: Member, desired: SteeringState): ProberTarget {
    const { endpoint, link } = member;
    const { outlier: policy, swarmPublicKey, vip } = desired;
    return { endpoint, link, port: vip.port, swarmPublicKey, policy, echo: this.#config.probeEcho };
  }

  #answered(endpoint: string): void {
    const { desired } = this.#state;
    if (desired === undefined || !this.#state.records.has(endpoint)) return;
    const before = this.#state.record(endpoint);
    const record = afterAnswer(before);
    this.#state.records.set(endpoint, record);
    this.#refused.delete(endpoint);
    if (this.#refused.size === 0) this.#panic = false;
    if (!before.proven) this.#inBackground("save", () => this.#stateFile.save());
    if (mayReturn(record, desired.outlier, Date.now())) this.#return(endpoint, desired);
  }

  #missed(endpoint: string, refused: boolean): void {
    const { desired } = this.#state;
    if (desired === undefined || !this.#state.records.has(endpoint)) return;
    this.#state.records.set(endpoint, afterMiss(this.#state.record(endpoint)));
    const decision = decideEjection(endpoint, [...this.#state.records.values()], desired.outlier);
    if (decision.kind === "eject") this.#eject(endpoint, desired, refused);
    else if (decision.kind === "refuse") this.#refuse(endpoint, decision);
  }

  #refuse(endpoint: string, decision: { panic: boolean; because: string }): void {
    const known = this.#refused.has(endpoint);
    this.#refused.add(endpoint);
    if (decision.panic && !this.#panic) {
      this.#panic = true;
      const text = `nobody is ejected: ${decision.because}; the prober itself may be at fault`;
      this.events.add({ kind: "panic", endpoint: undefined, text, details: { because: decision.because } }, Date.now());
    }
    if (known) return;
    const text = `${endpoint} does not answer but is not ejected: ${decision.because}`;
    this.events.add(
      { kind: "ejection-refused", endpoint, text, details: { because: decision.because, panic: decision.panic } },
      Date.now(),
    );
  }

  /** Everything in one go: nothing here waits for a disk, a controller or another endpoint's answer. */
  #eject(endpoint: string, desired: SteeringState, refused: boolean): void {
    const nowMs = Date.now();
    const record = ejected(this.#state.record(endpoint), desired.outlier, nowMs);
    this.#state.records.set(endpoint, record);
    this.#refused.delete(endpoint);
    const sessions = this.#book.heldBy(endpoint, nowMs);
    const moves = this.#takeover.assign(endpoint, sessions);
    if (desired.outlier.takeover) this.#takeover.begin(moves, nowMs);
    this.#inBackground("eject", async () => {
      await this.#follow(moves);
      const followedMs = Date.now() - nowMs;
      this.#log.info({ event: "ejection-in-force", endpoint, sessions: moves.length, tookMs: followedMs });
      this.#rebalance();
      await this.#push();
      await this.#stateFile.save();
    });
    const lastAnswerAtMs = this.#probers.get(endpoint)?.inner(nowMs).lastAnswerAtMs ?? nowMs;
    const why = refused ? "its WireGuard is gone" : `${record.missesInARow} probes in a row were not answered`;
    this.events.add(
      {
        kind: "ejected",
        endpoint,
        text: `${endpoint} is out for at least ${ejectionMs(record, desired.outlier)} ms: ${why}; ${moves.length} sessions go to their shadows`,
        details: {
          misses: record.missesInARow,
          refused,
          silentMs: nowMs - lastAnswerAtMs,
          sessions: sessions.length,
          moves: moves.length,
          shadows: [...new Set(moves.map((move) => move.to))].sort(),
          takeover: desired.outlier.takeover,
        },
      },
      nowMs,
    );
  }

  /** Pins and ways back of sessions that go elsewhere, and the fence, in one transaction each side. */
  async #follow(moves: readonly Move[]): Promise<void> {
    const atMs = Date.now();
    for (const { session, to } of moves) {
      this.#state.pins.set(session.outerAddress, {
        client: session.outerAddress,
        endpoint: to,
        publicKey: session.publicKey,
        atMs,
      });
    }
    const routes = this.#routesOf(moves.map(({ session, to }) => ({ ...session, endpoint: to })));
    const { desired } = this.#state;
    if (desired === undefined) return;
    const view = viewOf(this.#state, desired);
    const fenceAndRoute = async () => {
      await this.#plane.giveBack(view);
      await this.#plane.setRoutes(routes);
    };
    const results = await Promise.allSettled([this.#plane.steer(view), fenceAndRoute()]);
    for (const result of results) if (result.status === "rejected") this.#failed("follow", result.reason);
  }

  #return(endpoint: string, desired: SteeringState): void {
    const nowMs = Date.now();
    const before = this.#state.record(endpoint);
    this.#state.records.set(endpoint, returned(before, nowMs));
    const outMs = nowMs - (before.ejectedAtMs ?? nowMs);
    const text = `${endpoint} answers again after ${outMs} ms; its weight rises over ${desired.outlier.slowStartMs} ms`;
    this.events.add({ kind: "returned", endpoint, text, details: { outMs, ejections: before.ejections } }, nowMs);
    this.#inBackground("return", async () => {
      await this.#retireMoved(endpoint);
      this.#rebalance();
      await this.#push();
      await this.#stateFile.save();
    });
  }

  /** The endpoint forgets sessions that live elsewhere by now, so that it begins no handshake for them. */
  async #retireMoved(endpoint: string): Promise<void> {
    const current = this.#book.current(Date.now());
    const moved = this.#book.all().filter((session) => {
      const holder = current.get(session.publicKey)?.endpoint;
      return session.endpoint === endpoint && holder !== undefined && holder !== endpoint;
    });
    const publicKeys = moved.map((session) => session.publicKey).slice(0, LIMITS.agent.adoptBatchMax);
    if (publicKeys.length === 0) return;
    try {
      const operation = `reflex/return/${endpoint}/${randomBytes(8).toString("hex")}`;
      await this.#agentOf(endpoint)?.retire({ operation, publicKeys });
      this.#book.forget(endpoint, new Set(publicKeys));
    } catch (thrown) {
      this.#log.warn({ event: "retire-failed", endpoint, detail: messageOf(thrown) });
    }
  }

  #takeoverEnded(from: string, moved: number, left: number, tookMs: number): void {
    const rest = left === 0 ? "" : `; ${left} clients did not answer`;
    const text = `${moved} sessions of ${from} live on their shadows after ${tookMs} ms${rest}`;
    this.events.add({ kind: "sessions-moved", endpoint: from, text, details: { moved, left, tookMs } }, Date.now());
  }

  /** Weights that rise, sessions that shift the load, pins that have done their work, devices that came or went. */
  #tidy(): void {
    if (this.#tidying) return;
    this.#tidying = true;
    this.#inBackground("tidy", async () => {
      try {
        const nowMs = Date.now();
        this.#takeover.tick(nowMs);
        if (this.#book.dirty) {
          this.#book.dirty = false;
          await this.#sessionsFile.save();
        }
        const pins = this.#dropPins(nowMs);
        const buckets = this.#rebalance();
        const devices = this.#state.desired !== undefined && (await this.#plane.refreshDevices());
        if (!pins && !buckets && !devices && !this.#behind) return;
        await this.#push();
        await this.#stateFile.save();
      } finally {
        this.#tidying = false;
      }
    });
  }

  #verify(): void {
    this.#plane.distrust();
    this.#inBackground("verify", async () => {
      if (await this.#push()) this.#log.warn({ event: "packet-path-repaired" });
    });
  }

  /** Pins that have outlived what they had to overrule. */
  #dropPins(nowMs: number): boolean {
    const members = this.#state.slots;
    let dropped = false;
    for (const pin of this.#state.pins.values()) {
      if (nowMs - pin.atMs < LIMITS.reflex.pinAfterlifeMs && members.has(pin.endpoint)) continue;
      this.#state.pins.delete(pin.client);
      dropped = true;
    }
    return dropped;
  }

  /** True when the table changed. */
  #rebalance(): boolean {
    const { desired } = this.#state;
    if (desired === undefined) return false;
    const nowMs = Date.now();
    const buckets = bucketsFor(this.#state, desired, weightsInForce(this.#state, desired, nowMs), this.#sessionCounts(nowMs));
    const changed = buckets !== this.#state.buckets;
    this.#state.buckets = buckets;
    return changed;
  }

  async #push(): Promise<boolean> {
    const { desired } = this.#state;
    if (desired === undefined) return false;
    const view = viewOf(this.#state, desired);
    this.#behind = true;
    const [steered, back] = await Promise.all([this.#plane.steer(view), this.#plane.giveBack(view)]);
    this.#behind = false;
    return steered || back;
  }

  /** Members that may take over: neither out nor silent nor on their way out; when there is none, whoever is not out. */
  #fit(): ReadonlySet<string> {
    const members = this.#state.desired?.members ?? [];
    const best = members.filter((member) => this.#isFit(member.endpoint) && !member.draining && member.weight > 0);
    const chosen = best.length > 0 ? best : members.filter((member) => this.#isFit(member.endpoint));
    return new Set(chosen.map((member) => member.endpoint));
  }

  #isFit(endpoint: string): boolean {
    const record = this.#state.records.get(endpoint);
    return record !== undefined && record.ejectedAtMs === undefined && record.proven && record.missesInARow < 2;
  }

  #sessionCounts(nowMs: number): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const { endpoint } of this.#book.current(nowMs).values()) counts.set(endpoint, (counts.get(endpoint) ?? 0) + 1);
    return counts;
  }

  #agentOf(endpoint: string): EndpointAgent | undefined {
    const known = this.#agents.get(endpoint);
    if (known !== undefined) return known.client;
    const socketPath = this.#state.desired?.members.find((member) => member.endpoint === endpoint)?.link.agent;
    if (socketPath === undefined) return undefined;
    const client = agentClient({ socketPath, timeoutMs: LIMITS.reflex.adoptTimeoutMs });
    this.#agents.set(endpoint, { socketPath, client });
    return client;
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
    task().catch((thrown: unknown) => this.#failed(what, thrown));
  }

  #failed(what: string, thrown: unknown): void {
    this.#behind = true;
    this.#log.error({ event: "reflex-step-failed", what, detail: messageOf(thrown) });
  }

  eventsAfter(after: number, waitMs: number): Promise<readonly ReflexEvent[]> {
    return this.events.after(after, Math.min(waitMs, LIMITS.reflex.eventsWaitMsMax));
  }
}
