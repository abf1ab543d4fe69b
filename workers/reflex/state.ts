/** What the reflex keeps over a restart. */
import { z } from "zod";
import { LIMITS } from "../../models/limits.ts";
import { newRecord, type OutlierRecord } from "../../models/outlier.ts";
import { SocketAddress } from "../../models/session.ts";
import { EndpointName, type SteeringState, SteeringState as SteeringStateSchema } from "../../models/steering.ts";
import { IpsecBook } from "./ipsec-book.ts";

const KeptRecord = z.object({
  endpoint: EndpointName,
  proven: z.boolean(),
  ejectedAtMs: z.number().optional(),
  ejections: z.number(),
  streak: z.number(),
  returnedAtMs: z.number().optional(),
});

/** An operation that was carried out: asked for again, it changes nothing. */
export const Executed = z.object({
  operation: z.string(),
  epoch: z.number(),
  atMs: z.number(),
  executions: z.number(),
  asked: z.number(),
});
export type Executed = z.infer<typeof Executed>;

/** A pin of the reflex's own: made by an ejection, or kept for a while when it is desired no more. */
export const OwnPin = z.object({ client: SocketAddress, endpoint: EndpointName, publicKey: z.string(), atMs: z.number() });
export type OwnPin = z.infer<typeof OwnPin>;

const StateFile = z.object({
  version: z.literal(1),
  desired: SteeringStateSchema.nullable(),
  slots: z.array(z.tuple([z.string(), z.number()])),
  nextSlot: z.number(),
  records: z.array(KeptRecord),
  pins: z.array(OwnPin),
  buckets: z.array(z.number()),
  operations: z.array(Executed),
});
type StateFile = z.infer<typeof StateFile>;
export const ReflexStateFile: z.ZodType<StateFile> = StateFile;

/** Where the state was before a change that may have to be taken back. */
export interface StateMark {
  readonly desired: SteeringState | undefined;
  readonly slots: ReadonlyMap<string, number>;
  readonly records: ReadonlyMap<string, OutlierRecord>;
  readonly pins: ReadonlyMap<string, OwnPin>;
  readonly buckets: readonly number[];
}

export class ReflexState {
  desired: SteeringState | undefined;
  /** Marks of members. A number is given out once: what was learned of a former member must never lead to another. */
  readonly slots = new Map<string, number>();
  #nextSlot = 1;
  readonly records = new Map<string, OutlierRecord>();
  /** By client address. */
  readonly pins = new Map<string, OwnPin>();
  buckets: readonly number[] = [];
  readonly operations = new Map<string, Executed>();
  /** Kept in a file of its own. */
  readonly ipsec = new IpsecBook();

  load(file: StateFile): void {
    this.desired = file.desired ?? undefined;
    for (const [endpoint, slot] of file.slots) this.slots.set(endpoint, slot);
    this.#nextSlot = file.nextSlot;
    for (const kept of file.records) {
      const { ejectedAtMs, returnedAtMs, ...rest } = kept;
      this.records.set(kept.endpoint, { ...newRecord(kept.endpoint), ...rest, ejectedAtMs, returnedAtMs });
    }
    for (const pin of file.pins) this.pins.set(pin.client, pin);
    this.buckets = file.buckets;
    for (const executed of file.operations) this.operations.set(executed.operation, executed);
  }

  snapshot(): StateFile {
    return {
      version: 1,
      desired: this.desired ?? null,
      slots: [...this.slots],
      nextSlot: this.#nextSlot,
      records: [...this.records.values()],
      pins: [...this.pins.values()],
      buckets: [...this.buckets],
      operations: [...this.operations.values()],
    };
  }

  /** Slots and records for exactly these members. */
  setMembers(endpoints: readonly string[]): void {
    const members = new Set(endpoints);
    for (const endpoint of this.slots.keys()) if (!members.has(endpoint)) this.slots.delete(endpoint);
    for (const endpoint of this.records.keys()) if (!members.has(endpoint)) this.records.delete(endpoint);
    for (const endpoint of endpoints) {
      if (!this.slots.has(endpoint)) {
        this.slots.set(endpoint, this.#nextSlot);
        this.#nextSlot += 1;
      }
      if (!this.records.has(endpoint)) this.records.set(endpoint, newRecord(endpoint));
    }
  }

  mark(): StateMark {
    const { desired, slots, records, pins, buckets } = this;
    return { desired, slots: new Map(slots), records: new Map(records), pins: new Map(pins), buckets };
  }

  /** What the probes have found out since is kept. */
  goBackTo(mark: StateMark): void {
    this.desired = mark.desired;
    this.buckets = mark.buckets;
    for (const endpoint of this.slots.keys()) if (!mark.slots.has(endpoint)) this.slots.delete(endpoint);
    for (const endpoint of this.records.keys()) if (!mark.slots.has(endpoint)) this.records.delete(endpoint);
    for (const [endpoint, slot] of mark.slots) this.slots.set(endpoint, slot);
    for (const [endpoint, record] of mark.records) if (!this.records.has(endpoint)) this.records.set(endpoint, record);
    for (const { client } of mark.desired?.pins ?? []) if (!mark.pins.has(client)) this.pins.delete(client);
    for (const [client, pin] of mark.pins) if (!this.pins.has(client)) this.pins.set(client, pin);
  }

  /** Members that may take over: neither out nor silent nor on their way out; when there is none, whoever is not out. */
  fit(): ReadonlySet<string> {
    const fit = this.desired?.members.filter((member) => this.isFit(member.endpoint)) ?? [];
    const best = fit.filter((member) => !member.draining && member.weight > 0);
    return new Set((best.length > 0 ? best : fit).map((member) => member.endpoint));
  }

  /** It answers: one probe may get lost, two look like the beginning of a fault. */
  isFit(endpoint: string): boolean {
    const record = this.records.get(endpoint);
    if (this.isRevoked(endpoint)) return false;
    return record !== undefined && record.ejectedAtMs === undefined && record.proven && record.missesInARow < 2;
  }

  isRevoked(endpoint: string): boolean {
    return this.desired?.revoked?.includes(endpoint) === true;
  }

  record(endpoint: string): OutlierRecord {
    return this.records.get(endpoint) ?? newRecord(endpoint);
  }

  executed(operation: string, epoch: number, atMs: number): void {
    this.operations.set(operation, { operation, epoch, atMs, executions: 1, asked: 1 });
    for (const oldest of this.operations.keys()) {
      if (this.operations.size <= LIMITS.reflex.operationsKeptMax) return;
      this.operations.delete(oldest);
    }
  }
}
