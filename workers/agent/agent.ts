/**
 * The agent's loops: look at the device, tell the reflex and the collector what changed, follow the swarm's peers and sessions,
 * and heartbeat. Each goes on when the others' counterparts are away.
 */

import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import { z } from "zod";
import { NO_RETRY, type RetryPolicy, type UnixHttpClient } from "../../drivers/http-unix.ts";
import type { AgentStatus } from "../../drivers/ports.ts";
import { followSessions, type StreamLine } from "../../drivers/store/session-stream.ts";
import { espHold } from "../../drivers/tunnel/esp-hold.ts";
import { strongSwan } from "../../drivers/tunnel/strongswan.ts";
import { xfrmKernel } from "../../drivers/tunnel/xfrm-kernel.ts";
import { textSealer } from "../../drivers/vault/sealed-text.ts";
import type { Vault } from "../../drivers/vault/vault.ts";
import { messageOf } from "../../models/errors.ts";
import type { IpsecLine } from "../../models/ipsec/wire.ts";
import type { RevokedPeer } from "../../models/keys.ts";
import { LIMITS } from "../../models/limits.ts";
import { KEY_LIMITS } from "../../models/limits-keys.ts";
import { Peer, SessionState } from "../../models/session.ts";
import type { StaticIdentity } from "../../models/static-identities.ts";
import { ipsecKey } from "../../models/vault-layout.ts";
import { keepToken } from "../keep-token.ts";
import type { AgentApi } from "./api.ts";
import type { AgentConfig } from "./config.ts";
import { IpsecGateway } from "./ipsec/gateway.ts";
import { Journal } from "./journal.ts";
import { PeerBook } from "./peer-book.ts";
import { Publisher } from "./publisher.ts";
import { BalancerAnswer, Reporter } from "./reporter.ts";
import { Sessions } from "./sessions.ts";
import { Tunnels } from "./tunnels.ts";

export interface AgentParts {
  readonly config: AgentConfig;
  readonly reflex: UnixHttpClient;
  readonly collector: UnixHttpClient;
  readonly secrets: Vault;
  readonly log: Logger;
}

export class Agent {
  readonly #config: AgentConfig;
  readonly #reflex: UnixHttpClient;
  readonly #collector: UnixHttpClient;
  readonly #secrets: Vault;
  readonly #log: Logger;
  readonly #tunnel: Tunnels;
  readonly #book: PeerBook;
  readonly #sessions: Sessions;
  readonly #journal: Journal;
  readonly #reporter: Reporter;
  readonly #ipsec: IpsecGateway | undefined;
  readonly #toReflex: Publisher;
  readonly #toCollector: Publisher;
  readonly #push: { readonly timeoutMs: number; readonly retry: RetryPolicy };
  readonly #stop = new AbortController();
  readonly #loops: Promise<void>[] = [];
  #poke: () => void = () => undefined;
  #tunnelUp = false;
  #peersMissing = false;
  #keysAskedAtMs = 0;
  #revokedMissing = false;

  constructor({ config, reflex, collector, secrets, log }: AgentParts) {
    this.#config = config;
    this.#reflex = reflex;
    this.#collector = collector;
    this.#secrets = secrets;
    this.#log = log;
    this.#push = { timeoutMs: config.pace.pushTimeoutMs, retry: NO_RETRY };
    this.#book = new PeerBook(config.stateDir, log);
    this.#journal = new Journal(config.stateDir, log);
    this.#sessions = new Sessions({ endpoint: config.endpoint, book: this.#book });
    this.#tunnel = new Tunnels({ config, secrets: secrets.kv, book: this.#book, log });
    this.#reporter = new Reporter({ config, collector });
    this.#ipsec = config.ipsec === undefined ? undefined : this.#ipsecGateway(config.ipsec);
    const retryMs = LIMITS.agent.pushRetryMs;
    this.#toReflex = new Publisher({ name: "reflex", retryMs, log, send: () => this.#pushToReflex() });
    this.#toCollector = new Publisher({ name: "collector", retryMs, log, send: () => this.#pushToCollector() });
  }

  api(): AgentApi {
    return {
      tunnel: this.#tunnel,
      sessions: this.#sessions,
      journal: this.#journal,
      status: () => this.#status(),
      recover: (adopts) => this.#recover(adopts),
      revoke: (peers) => this.#tunnel.revoke(peers),
      poke: () => this.#poke(),
      ipsec: this.#ipsec,
    };
  }

  start(): void {
    this.#loops.push(this.#startTunnel(), this.#watch(), this.#heartbeat(), this.#followProbes(), this.#followSwarm());
    this.#ipsec?.start();
    this.#loops.push(keepToken(this.#secrets, this.#log, this.#stop.signal));
  }

  /** Ends the loops; WireGuard stays up. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#toReflex.close();
    this.#toCollector.close();
    this.#reporter.close();
    await Promise.all([...this.#loops, this.#ipsec?.stop()]);
    this.#book.flush();
  }

  #ipsecGateway({ viciSocket, eventPackets, eventTenths }: NonNullable<AgentConfig["ipsec"]>): IpsecGateway {
    const { swarm, endpoint, vault } = this.#config;
    return new IpsecGateway({
      swarm,
      endpoint,
      kernel: xfrmKernel(),
      ike: strongSwan(viciSocket),
      hold: espHold(),
      sealer: textSealer(this.#secrets.calls, { mount: vault.mounts.transit, key: ipsecKey(swarm) }),
      reflex: this.#reflex,
      collector: this.#collector,
      clockOffsetMs: () => this.#reporter.clockOffsetMs,
      pace: { packets: eventPackets, tenths: eventTenths },
      log: this.#log,
    });
  }

  #status(): AgentStatus {
    return {
      endpoint: this.#config.endpoint,
      tunnelUp: this.#tunnelUp,
      sessions: this.#sessions.live().length,
      clockMs: Date.now(),
      sessionsVersion: this.#sessions.version,
      identities: this.#tunnel.identities,
    };
  }

  /** Tried until it is up: Vault may be away at first, or a device that runs may be too busy to answer. */
  async #startTunnel(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        await this.#tunnel.start();
        return this.#poke();
      } catch (thrown) {
        this.#log.error({ event: "tunnel-not-started", detail: messageOf(thrown) });
        await this.#pause(LIMITS.agent.startRetryMs);
      }
    }
  }

  async #watch(): Promise<void> {
    let toldReflexAtMs = 0;
    while (!this.#stop.signal.aborted) {
      const changed = await this.#look();
      this.#reporter.countPackets();
      const now = Date.now();
      if (changed || now - toldReflexAtMs >= this.#config.pace.sessionsRepeatMs) {
        toldReflexAtMs = now;
        this.#toReflex.changed();
      }
      this.#toCollector.changed();
      const { watchIntervalMs, watchIntervalAdoptingMs } = this.#config.pace;
      const pauseMs = this.#tunnel.adopting > 0 ? watchIntervalAdoptingMs : watchIntervalMs;
      const dueAtMs = performance.now() + pauseMs;
      await this.#pauseOrPoke(pauseMs);
      this.#reporter.tunnel.cameRound(performance.now() - dueAtMs);
    }
  }

  async #look(): Promise<boolean> {
    try {
      await this.#tunnel.followUp();
      const askedAtMs = performance.now();
      const state = await this.#tunnel.state();
      this.#reporter.tunnel.answered(performance.now() - askedAtMs);
      this.#note(true);
      await this.#catchUp();
      return this.#sessions.observe(state, this.#tunnel.pendingSessions(), Date.now());
    } catch (thrown) {
      this.#note(false, messageOf(thrown));
      return false;
    }
  }

  /** What the device, or Vault, could not take part in when it was asked for. */
  async #catchUp(): Promise<void> {
    const keysDue = this.#tunnel.keysMissing && Date.now() - this.#keysAskedAtMs >= KEY_LIMITS.agentRetryMs;
    if (this.#revokedMissing) {
      await this.#tunnel.revoke([]);
      this.#revokedMissing = false;
    }
    if (!this.#peersMissing && !keysDue) return;
    this.#keysAskedAtMs = Date.now();
    await this.#tunnel.configure(this.#book.all());
    this.#peersMissing = false;
  }

  #note(up: boolean, detail?: string): void {
    this.#reporter.tunnel.up(up);
    if (this.#tunnelUp === up) return;
    this.#tunnelUp = up;
    if (up) this.#log.info({ event: "tunnel-up" });
    else this.#log.error({ event: "tunnel-down", detail });
  }

  async #pushToReflex(): Promise<void> {
    if (!this.#sessions.observed) return;
    const options = { ...this.#push, body: this.#sessions.live(), schema: BalancerAnswer };
    const path = `/v1/endpoints/${this.#config.endpoint}/sessions?revocations=${this.#book.newestRevocation}`;
    this.#reporter.balancerAnswered(await this.#reflex.put(path, options));
  }

  async #pushToCollector(): Promise<void> {
    for (;;) {
      const now = Date.now();
      const delta = this.#sessions.delta(now);
      if (delta === undefined) return;
      await this.#collector.post("/v1/sessions", {
        ...this.#push,
        body: { swarm: this.#config.swarm, endpoint: this.#config.endpoint, ...delta },
      });
      this.#sessions.told(delta, now);
    }
  }

  async #heartbeat(): Promise<void> {
    this.#reporter.begin();
    const publisher = new Publisher({
      name: "collector's telemetry",
      retryMs: LIMITS.agent.heartbeatIntervalMs,
      log: this.#log,
      send: () => this.#reporter.send({ tunnelUp: this.#tunnelUp, sessions: this.#sessions.live() }),
    });
    while (!this.#stop.signal.aborted) {
      await this.#pause(LIMITS.agent.heartbeatIntervalMs);
      if (!this.#stop.signal.aborted) publisher.changed();
    }
    publisher.close();
  }

  /** The balancer's probers are peers like others, but for being no session. */
  async #followProbes(): Promise<void> {
    const ProbePeers = z.array(Peer.pick({ publicKey: true, innerAddresses: true }));
    let known = "";
    while (!this.#stop.signal.aborted) {
      try {
        const probes = await this.#reflex.get("/v1/probe-peers", { ...this.#push, schema: ProbePeers });
        if (JSON.stringify(probes) !== known) {
          await this.#tunnel.forget(this.#book.setProbes(probes));
          await this.#tunnel.configure(probes);
          known = JSON.stringify(probes);
          this.#log.info({ event: "probe-peers", count: probes.length });
        }
      } catch (thrown) {
        this.#log.debug({ event: "probe-peers-unknown", detail: messageOf(thrown) });
      }
      await this.#pause(known === "" ? LIMITS.agent.probePeersFirstMs : LIMITS.agent.probePeersIntervalMs);
    }
  }

  #followSwarm(): Promise<void> {
    const ipsec = this.#ipsec;
    return followSessions({
      ...(ipsec === undefined
        ? {}
        : { ipsec: { endpoint: this.#config.endpoint, onLines: (lines: readonly IpsecLine[]) => ipsec.takeLines(lines) } }),
      collector: this.#collector,
      swarm: this.#config.swarm,
      after: () => this.#sessions.version,
      onLines: (lines) => this.#takeLines(lines),
      onBreak: (thrown) => this.#log.debug({ event: "stream-broken", detail: messageOf(thrown) }),
      signal: this.#stop.signal,
    });
  }

  async #takeLines(lines: readonly StreamLine[]): Promise<void> {
    const peers = lines.flatMap((line) => ("peer" in line ? [{ ...line.peer, revision: line.version }] : []));
    const revoked = lines.flatMap((line) => ("revoke" in line ? [{ publicKey: line.revoke, revision: line.version }] : []));
    if (revoked.length > 0) await this.#revoke(revoked);
    if (peers.length > 0) await this.#configure(peers);
    const identities = lines.findLast((line) => "identities" in line);
    if (identities !== undefined) await this.#takeIdentities(identities.identities);
    for (const line of lines) {
      if ("peer" in line || "identities" in line) this.#sessions.learnVersion(line.version);
      else if ("upsert" in line) this.#sessions.learn(line.upsert);
      else if ("remove" in line) this.#sessions.learnRemoval(line.remove, line.version);
      else if ("revoke" in line) this.#sessions.learnRemoval(line.revoke, line.version);
      else if (line.head < this.#sessions.version) {
        this.#sessions.unlearn();
        this.#book.forgetRevisions();
        // The stream that said so goes on after a version of the past; the next one begins at the first.
        throw new Error("the store began anew");
      }
    }
  }

  /** A key that Vault does not give is asked for until it does, beside everything else. */
  async #takeIdentities(identities: readonly StaticIdentity[]): Promise<void> {
    await this.#tunnel.follow(identities);
    this.#loops.push(this.#startTunnel());
  }

  /** A device that does not answer has the revoked taken out as soon as it is looked at again; they are out of the book at once. */
  async #revoke(revoked: readonly RevokedPeer[]): Promise<void> {
    try {
      const out = await this.#tunnel.revoke(revoked);
      if (out > 0) this.#log.info({ event: "peers-revoked", count: out });
    } catch (thrown) {
      this.#revokedMissing = true;
      this.#log.warn({ event: "peers-not-revoked", count: revoked.length, detail: messageOf(thrown) });
    }
    this.#poke();
  }

  /** A device that cannot take the peers gets them once it is back: they are in the book. */
  async #configure(peers: readonly Peer[]): Promise<void> {
    try {
      await this.#tunnel.configure(peers);
    } catch (thrown) {
      this.#peersMissing = true;
      this.#log.warn({ event: "peers-not-configured", count: peers.length, detail: messageOf(thrown) });
    }
  }

  /** Sessions to bring back after a restart of the device: those it had, less those the balancer has moved elsewhere since. */
  async #recover(adopts: boolean): Promise<number> {
    if (adopts) await this.#learnWhatMoved();
    const recovered = await this.#tunnel.recover(adopts ? this.#sessions.alive(Date.now()) : []);
    this.#reporter.tunnel.restarted();
    return recovered;
  }

  async #learnWhatMoved(): Promise<void> {
    try {
      const known = await this.#reflex.get("/v1/sessions", { ...this.#push, schema: z.array(SessionState) });
      for (const session of known) if (session.endpoint !== this.#config.endpoint) this.#sessions.learnElsewhere(session);
    } catch (thrown) {
      this.#log.warn({ event: "reflex-sessions-unknown", detail: messageOf(thrown) });
    }
  }

  async #pause(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#stop.signal }).catch(() => undefined);
  }

  #pauseOrPoke(ms: number): Promise<void> {
    return Promise.race([this.#pause(ms), new Promise<void>((resolve) => (this.#poke = resolve))]);
  }
}
