/**
 * What a machine's provider says of it beforehand: Spot capacity that is taken back, maintenance of its host, status checks that fail. Each
 * is an outside event that reaches this one endpoint, so that it is weighed with all other evidence of its failure.
 */
import { EVERY_REGION, type OutsideEvent } from "./outside-events.ts";

export interface MachineNotice {
  /** The same for the same matter, however often it is told. */
  readonly id: string;
  readonly machine: string;
  readonly kind: "interruption" | "rebalance" | "maintenance" | "host-impaired" | "machine-impaired";
  /** Unix milliseconds from which on it may happen; undefined: at any moment. */
  readonly fromMs: number | undefined;
  /** Until when it may; undefined: until it is said no more. */
  readonly untilMs: number | undefined;
  /** The provider's own words. */
  readonly text: string;
}

/**
 * The share of machines that are lost, or stand still for longer than a session bears, after such a notice. An interruption and a host's
 * retirement are announced deeds, not guesses; a rebalance recommendation is a guess, so that it alone lowers weight and replaces only
 * together with other evidence; a failed check of the host is seldom undone by itself, one of the machine sometimes is. Judged, not
 * measured: what came of them is in the telemetry that failure models learn from.
 */
const CONFIDENCE: Readonly<Record<MachineNotice["kind"], number>> = {
  interruption: 0.99,
  rebalance: 0.5,
  maintenance: 0.95,
  "host-impaired": 0.9,
  "machine-impaired": 0.8,
};

const KIND: Readonly<Record<MachineNotice["kind"], OutsideEvent["kind"]>> = {
  interruption: "maintenance",
  rebalance: "maintenance",
  maintenance: "maintenance",
  "host-impaired": "provider-incident",
  "machine-impaired": "provider-incident",
};

/** The notices on one machine as events that hold at `nowMs`, or begin at their own moment. */
export function noticeEvents(notices: readonly MachineNotice[], machine: string, nowMs: number): readonly OutsideEvent[] {
  return notices
    .filter((notice) => notice.machine === machine && (notice.untilMs ?? Number.POSITIVE_INFINITY) > nowMs)
    .map(({ id, kind, fromMs, untilMs, text }) => ({
      id,
      source: "hypervisor",
      kind: KIND[kind],
      region: EVERY_REGION,
      zone: undefined,
      startsAtMs: fromMs ?? nowMs,
      endsAtMs: untilMs ?? Number.MAX_SAFE_INTEGER,
      severity: 1,
      confidence: CONFIDENCE[kind],
      text,
    }));
}
