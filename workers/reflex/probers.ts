/** The probers of the members, each with the balancer's own key; one for each member, and none for anybody else. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { type KeyPair, keyPairOf } from "../../drivers/tunnel/wireguard-probe-crypto.ts";
import { ForeshiftError } from "../../models/errors.ts";
import type { Member, ProbeStats, SteeringState } from "../../models/steering.ts";
import { readWhole, writeWhole } from "./files.ts";
import { MemberProber, type ProbeListener, type ProberTarget } from "./prober.ts";

export class Probers {
  readonly #echo: ProberTarget["echo"];
  readonly #listener: ProbeListener;
  readonly #byMember = new Map<string, MemberProber>();
  #key: KeyPair | undefined;

  constructor(echo: ProberTarget["echo"], listener: ProbeListener) {
    this.#echo = echo;
    this.#listener = listener;
  }

  /** Its key, made where there is none yet. INVALID_FIELD where the file holds something else. */
  async load(stateDir: string): Promise<void> {
    const path = join(stateDir, "probe.key");
    const kept = await readWhole(path);
    const raw = kept === undefined ? randomBytes(32) : Buffer.from(kept.trim(), "base64");
    if (kept === undefined) await writeWhole(path, `${raw.toString("base64")}\n`);
    if (raw.length !== 32)
      throw new ForeshiftError("INVALID_FIELD", { field: path, value: "a file", detail: "expected 32 bytes in base64" });
    this.#key = keyPairOf(raw);
  }

  /** In base64; undefined before the key was loaded. */
  get publicKey(): string | undefined {
    return this.#key?.publicKey.toString("base64");
  }

  sync(desired: SteeringState): void {
    const members = new Map(desired.members.map((member) => [member.endpoint, member]));
    for (const [endpoint, prober] of this.#byMember) {
      const member = members.get(endpoint);
      if (member !== undefined && prober.retarget(this.#target(member, desired))) continue;
      prober.close();
      this.#byMember.delete(endpoint);
    }
    if (this.#key === undefined) return;
    for (const [endpoint, member] of members) {
      if (this.#byMember.has(endpoint)) continue;
      this.#byMember.set(endpoint, new MemberProber(this.#target(member, desired), this.#key, this.#listener));
    }
  }

  /** Probes of one endpoint, through its tunnel and outside of it; undefined of one that is not probed. */
  of(endpoint: string, nowMs: number): { readonly inner: ProbeStats; readonly outer: ProbeStats } | undefined {
    const prober = this.#byMember.get(endpoint);
    return prober === undefined ? undefined : { inner: prober.inner(nowMs), outer: prober.outer(nowMs) };
  }

  close(): void {
    for (const prober of this.#byMember.values()) prober.close();
  }

  #target(member: Member, desired: SteeringState): ProberTarget {
    const { endpoint, link } = member;
    const { outlier: policy, swarmPort, swarmPublicKey, vip } = desired;
    return { endpoint, link, port: swarmPort ?? vip.port, swarmPublicKey, policy, echo: this.#echo };
  }
}
