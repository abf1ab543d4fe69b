/**
 * The lives of endpoints, cut into the pieces that are the units of a training table. A life ends when the endpoint fails, is taken out,
 * or falls silent; only a failure is known for what it is.
 */
import { placeOfHash } from "../control-slice.ts";
import type { FleetLife } from "../failure/fleet-table.ts";
import { LIMITS } from "../limits.ts";
import type { Happened, Mitigation, Outage } from "./happened.ts";

/** Telemetry of an endpoint was heard in this time. Unix milliseconds. */
export interface Heard {
  readonly endpoint: string;
  readonly fromMs: number;
  readonly untilMs: number;
}

export interface Piece extends FleetLife {
  /** Numbers the lives; pieces of one life follow each other. */
  readonly life: number;
  /** The chance with which it was kept: rows stand for one over this many. */
  readonly keptShare: number;
  readonly alarm: { readonly atMs: number; readonly overAtMs: number; readonly isControl: boolean } | undefined;
}

export interface LivesInput {
  readonly heard: readonly Heard[];
  readonly happened: Happened;
  /** How far ahead the model will look. */
  readonly windowMs: number;
  readonly rowsMax: number;
}

/** Pieces are at least so many windows long. */
const PIECE_WINDOWS_MIN = 12;

/** In the order of endpoint, then time. Where there are more rows than are taken, healthy pieces are drawn by the hash of their names. */
export function piecesOf({ heard, happened, windowMs, rowsMax }: LivesInput): readonly Piece[] {
  const pieces: Piece[] = [];
  for (const [life, { endpoint, fromMs, untilMs, failedAtMs }] of heard.flatMap((one) => livesIn(one, happened)).entries()) {
    for (const cut of cutsOf(endpoint, fromMs, untilMs, windowMs, failedAtMs !== undefined)) {
      const isLast = cut.untilMs === untilMs;
      const piece = { endpoint, life, keptShare: 1, ...cut, ...(isLast && failedAtMs !== undefined ? { failedAtMs } : {}) };
      pieces.push({ ...piece, alarm: alarmIn(piece, happened.mitigations, windowMs) });
    }
  }
  return drawn(pieces, rowsMax);
}

/** What is heard of an endpoint, less the time it was out. */
function livesIn({ endpoint, fromMs, untilMs }: Heard, { outages }: Happened): readonly FleetLife[] {
  const lives: FleetLife[] = [];
  let beginMs = fromMs;
  for (const outage of outages) {
    if (outage.endpoint !== endpoint || outage.untilMs <= beginMs) continue;
    if (outage.fromMs >= untilMs) break;
    if (outage.fromMs > beginMs) lives.push(lifeUntil(endpoint, beginMs, outage));
    beginMs = Math.max(beginMs, outage.untilMs);
  }
  if (beginMs < untilMs) lives.push({ endpoint, fromMs: beginMs, untilMs });
  return lives;
}

function lifeUntil(endpoint: string, beginMs: number, { fromMs, isFailure }: Outage): FleetLife {
  return { endpoint, fromMs: beginMs, untilMs: fromMs, ...(isFailure ? { failedAtMs: fromMs } : {}) };
}

/**
 * Cut at times that the endpoint's name decides, so that the length of a piece tells nothing of what ends it. The rows before a failure stay
 * in one piece with it: a cut in its last two windows is left out.
 */
function cutsOf(endpoint: string, fromMs: number, untilMs: number, windowMs: number, isFailure: boolean) {
  const pieceMs = Math.max(LIMITS.training.pieceMs, PIECE_WINDOWS_MIN * windowMs);
  const offsetMs = Math.floor(placeOfHash(endpoint) * pieceMs);
  const lastMs = isFailure ? untilMs - 2 * windowMs : untilMs;
  const cuts: { fromMs: number; untilMs: number }[] = [];
  let beginMs = fromMs;
  for (let atMs = Math.floor((fromMs - offsetMs) / pieceMs + 1) * pieceMs + offsetMs; atMs < lastMs; atMs += pieceMs) {
    cuts.push({ fromMs: beginMs, untilMs: atMs });
    beginMs = atMs;
  }
  return [...cuts, { fromMs: beginMs, untilMs }];
}

/** From the first to the last action on a prediction that may have hidden what would have come in this piece. */
function alarmIn(piece: FleetLife, mitigations: readonly Mitigation[], windowMs: number): Piece["alarm"] {
  const endMs = piece.failedAtMs ?? piece.untilMs;
  const own = mitigations.filter(
    ({ endpoint, atMs }) => endpoint === piece.endpoint && atMs > piece.fromMs - windowMs && atMs <= endMs + windowMs,
  );
  const [first] = own;
  const last = own.at(-1);
  if (first === undefined || last === undefined) return undefined;
  return { atMs: first.atMs, overAtMs: last.atMs + windowMs, isControl: own.every(({ isControl }) => isControl) };
}

/** Pieces that end in a failure, or in which something was done, the newest first, then others until there are rows enough. */
function drawn(pieces: readonly Piece[], rowsMax: number): readonly Piece[] {
  if (rowsOf(pieces) <= rowsMax) return pieces;
  const [telling, others] = [pieces.filter(isTelling), pieces.filter((piece) => !isTelling(piece))];
  const kept = firstOf(
    telling.toSorted((a, b) => b.untilMs - a.untilMs),
    rowsMax / 2,
  );
  const place = new Map(others.map((piece) => [piece, placeOfHash(`${piece.endpoint}/${piece.fromMs}`)]));
  const some = firstOf(
    others.toSorted((a, b) => (place.get(a) ?? 0) - (place.get(b) ?? 0)),
    rowsMax - rowsOf([...kept]),
  );
  const keptShare = rowsOf([...some]) / rowsOf(others);
  const tellingShare = rowsOf([...kept]) / rowsOf(telling);
  return pieces.flatMap((piece) => {
    if (kept.has(piece)) return [{ ...piece, keptShare: tellingShare }];
    return some.has(piece) ? [{ ...piece, keptShare }] : [];
  });
}

/** As many as have no more rows together. */
function firstOf(pieces: readonly Piece[], rowsMax: number): ReadonlySet<Piece> {
  let rows = 0;
  return new Set(
    pieces.filter((piece) => {
      rows += rowsOf([piece]);
      return rows <= rowsMax;
    }),
  );
}

function rowsOf(pieces: readonly Piece[]): number {
  return pieces.reduce((sum, { fromMs, untilMs }) => sum + (untilMs - fromMs) / LIMITS.telemetry.minuteMs, 0);
}

function isTelling({ failedAtMs, alarm }: Piece): boolean {
  return failedAtMs !== undefined || alarm !== undefined;
}
