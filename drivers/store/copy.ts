/**
 * Rows into a table by COPY: the fastest way in. They go through a table of the connection's own, so that what is there already can be
 * told from what is new, and a batch may be written twice.
 */
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type pg from "pg";
import { from as copyFrom } from "pg-copy-streams";

export type CopyValue = string | number | boolean | Date | null;

export interface CopyRequest {
  /** Names of tables and columns come from this program, never from outside. */
  readonly into: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly CopyValue[])[];
}

/** Rows of one chunk on the wire. */
const ROWS_PER_CHUNK = 256;

export async function copyRows(client: pg.ClientBase, { into, columns, rows }: CopyRequest): Promise<void> {
  if (rows.length === 0) return;
  const names = columns.map((column) => `"${column}"`).join(", ");
  await pipeline(Readable.from(chunksOf(rows)), client.query(copyFrom(`copy "${into}" (${names}) from stdin`)));
}

function* chunksOf(rows: CopyRequest["rows"]): Generator<string> {
  for (let from = 0; from < rows.length; from += ROWS_PER_CHUNK) {
    yield rows
      .slice(from, from + ROWS_PER_CHUNK)
      .map((row) => `${row.map(field).join("\t")}\n`)
      .join("");
  }
}

const ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r" };

/** COPY's text format. */
function field(value: CopyValue): string {
  if (value === null) return "\\N";
  if (value instanceof Date) return value.toISOString();
  if (typeof value !== "string") return String(value);
  return value.replace(/[\\\t\n\r]/g, (character) => ESCAPES[character] ?? character);
}
