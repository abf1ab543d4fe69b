/**
 * What happens outside and may reach endpoints: incidents and maintenance of providers, weather, the risk of a region. A feed states
 * them (docs/operations.md); this says which are valid, which cover a place, and what they add up to.
 */
import { z } from "zod";
import { LIMITS } from "./limits.ts";
import { shownAt } from "./parse.ts";

/** Of endpoints of a swarm file that names no region. */
export const REGION_DEFAULT = "local";
/** Covers every region. */
export const EVERY_REGION = "*";

/** Share of an event in one zone that reaches an endpoint whose zone is not known: providers' regions have three zones as a rule. */
const UNKNOWN_ZONE_SHARE = 1 / 3;

export const PlaceLabel = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, "expected 1 to 63 of a-z, 0-9, '.', '_' and '-', a letter or digit first");
export interface Place {
  readonly region: string;
  readonly zone?: string | undefined;
}
/** As far as it is stated. */
export interface StatedPlace {
  readonly region?: string | undefined;
  readonly zone?: string | undefined;
}

const OUTSIDE_EVENT_KINDS = ["provider-incident", "maintenance", "weather", "region-risk"] as const;
const share = z.number().min(0).max(1);
const label = z.string().trim().toLowerCase().pipe(PlaceLabel);
const moment = z.iso.datetime({ offset: true }).transform((text) => Date.parse(text));
const { idCharsMax, textCharsMax, windowDaysMax } = LIMITS.outsideEvents;

/** One entry of a feed; fields beyond these are the feed's own business. Times become Unix milliseconds. */
const FeedEntry = z
  .object({
    id: z.string().min(1).max(idCharsMax),
    source: z.string().min(1).max(idCharsMax),
    kind: z.enum(OUTSIDE_EVENT_KINDS),
    region: z.union([z.literal(EVERY_REGION), label]),
    zone: label.optional(),
    startsAt: moment,
    endsAt: moment,
    severity: share,
    confidence: share,
    text: z.string().max(textCharsMax),
  })
  .refine(({ startsAt, endsAt }) => endsAt > startsAt, { path: ["endsAt"], message: "expected a time after startsAt" })
  .refine(({ startsAt, endsAt }) => endsAt - startsAt <= windowDaysMax * 86_400_000, {
    path: ["endsAt"],
    message: `expected at most ${windowDaysMax} days after startsAt`,
  });

export interface OutsideEvent {
  readonly id: string;
  readonly source: string;
  readonly kind: (typeof OUTSIDE_EVENT_KINDS)[number];
  readonly region: string;
  readonly zone: string | undefined;
  /** Unix milliseconds; the end is not part of it. */
  readonly startsAtMs: number;
  readonly endsAtMs: number;
  /** How bad it is for an endpoint it reaches, 0..1. */
  readonly severity: number;
  /** How sure the source is of it, 0..1. */
  readonly confidence: number;
  readonly text: string;
}

/** An entry that was not taken, and why; `id` where it has one. */
export interface RefusedEntry {
  readonly index: number;
  readonly id: string | undefined;
  readonly field: string;
  readonly value: string;
  readonly detail: string;
}

export interface ReadFeed {
  readonly events: readonly OutsideEvent[];
  readonly refused: readonly RefusedEntry[];
}

/** Reads a feed's document entry by entry: a bad one is refused by itself. Undefined when the document is no list, or is too long. */
export function readFeed(document: unknown): ReadFeed | undefined {
  if (!Array.isArray(document) || document.length > LIMITS.outsideEvents.eventsMax) return undefined;
  const events = new Map<string, OutsideEvent>();
  const refused: RefusedEntry[] = [];
  for (const [index, entry] of document.entries()) {
    const result = FeedEntry.safeParse(entry);
    if (!result.success) refused.push(refusal(index, entry, result.error.issues[0]));
    else if (events.has(result.data.id))
      refused.push({ index, id: result.data.id, field: "id", value: result.data.id, detail: "an entry before it has this id" });
    else events.set(result.data.id, eventOf(result.data));
  }
  return { events: [...events.values()], refused };
}

/** One event that reaches a place: what it adds, and why. */
export interface OutsideTerm {
  readonly id: string;
  readonly kind: OutsideEvent["kind"];
  /** severity x confidence x how much of it reaches the place, 0..1. */
  readonly value: number;
  readonly text: string;
}

export interface OutsideRisk {
  /** 0..1. */
  readonly value: number;
  /** Largest first. Of each kind the first one counts. */
  readonly terms: readonly OutsideTerm[];
}

/**
 * Risk of a place from the events whose window has some of [now, now + ahead] in it. Several reports of one kind may be of one cause, so
 * the strongest of each kind counts; kinds add up as independent causes do (1 less the product of what each leaves).
 */
export function outsideRisk(events: readonly OutsideEvent[], place: Place, nowMs: number, aheadMs = 0): OutsideRisk {
  const terms = events
    .filter(({ startsAtMs, endsAtMs }) => startsAtMs <= nowMs + aheadMs && endsAtMs > nowMs)
    .map((event) => ({ ...event, value: event.severity * event.confidence * reach(event, place) }))
    .filter(({ value }) => value > 0)
    .map(({ id, kind, value, text }): OutsideTerm => ({ id, kind, value, text }))
    .toSorted((one, other) => other.value - one.value || (one.id < other.id ? -1 : 1));
  const strongest = new Map<string, number>();
  for (const { kind, value } of terms) if (!strongest.has(kind)) strongest.set(kind, value);
  const left = [...strongest.values()].reduce((product, value) => product * (1 - value), 1);
  return { value: Math.min(1, Math.max(0, 1 - left)), terms };
}

/** Share of an event that reaches a place. */
function reach(event: OutsideEvent, place: Place): number {
  if (event.region !== EVERY_REGION && event.region !== place.region.toLowerCase()) return 0;
  if (event.zone === undefined) return 1;
  if (place.zone === undefined) return UNKNOWN_ZONE_SHARE;
  return event.zone === place.zone.toLowerCase() ? 1 : 0;
}

/** Where an endpoint is: as its agent says, else as its swarm file says. */
export function placeOf(spec: StatedPlace, reported?: StatedPlace): Place {
  const region = reported?.region ?? spec.region ?? REGION_DEFAULT;
  const zone = reported?.zone ?? (reported?.region === undefined || reported.region === spec.region ? spec.zone : undefined);
  return zone === undefined ? { region } : { region, zone };
}

function eventOf({ startsAt, endsAt, zone, ...rest }: z.infer<typeof FeedEntry>): OutsideEvent {
  return { ...rest, zone, startsAtMs: startsAt, endsAtMs: endsAt };
}

function refusal(index: number, entry: unknown, issue: z.core.$ZodIssue | undefined): RefusedEntry {
  const id =
    typeof entry === "object" && entry !== null && "id" in entry && typeof entry.id === "string" ? entry.id : undefined;
  const path = issue?.path ?? [];
  return {
    index,
    id: id?.slice(0, idCharsMax),
    field: path.length === 0 ? "entry" : path.map(String).join("."),
    value: shownAt(entry, path),
    detail: issue?.message ?? "it does not have the expected form",
  };
}
