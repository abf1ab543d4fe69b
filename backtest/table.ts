/** Tables of numbers as the backtests read them: comma-separated text, gzipped or not, the first line naming the columns. */
import { readFile } from "node:fs/promises";
import { gunzipSync } from "node:zlib";
import { ForeshiftError, fileTrouble } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";

export interface Table {
  readonly file: string;
  readonly columns: readonly string[];
  /** One array of cells a row, each as long as `columns`. */
  readonly rows: readonly (readonly string[])[];
}

/** Reads one table; throws INVALID_FIELD naming the file, and the line where the text is not a table. */
export async function readTable(file: string): Promise<Table> {
  const text = await readText(file);
  const lines = text.split("\n").map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line));
  while (lines.at(-1) === "") lines.pop();
  const [head, ...body] = lines;
  if (head === undefined) throw badFile(file, "the file is empty; expected a first line that names the columns");
  const columns = head.split(",");
  const rows = body.map((line, index) => {
    const cells = line.split(",");
    if (cells.length === columns.length) return cells;
    throw badFile(file, `line ${index + 2} has ${cells.length} cells, expected ${columns.length}`);
  });
  return { file, columns, rows };
}

/** The number in a cell; NaN for an empty one. Throws INVALID_FIELD for anything else. */
export function numberOf(table: Table, row: number, column: number): number {
  const cell = table.rows[row]?.[column] ?? "";
  if (cell === "") return Number.NaN;
  const value = Number(cell);
  if (Number.isFinite(value)) return value;
  throw badFile(table.file, `line ${row + 2}, column ${table.columns[column]}: ${JSON.stringify(cell)} is not a number`);
}

export function badFile(file: string, detail: string): ForeshiftError {
  return new ForeshiftError("INVALID_FIELD", { field: "data", value: file, detail });
}

/** The file's text, unpacked where it is gzipped. */
export async function readText(file: string): Promise<string> {
  try {
    const bytes = await readFile(file);
    const isGzip = bytes[0] === 0x1f && bytes[1] === 0x8b;
    return (isGzip ? gunzipSync(bytes, { maxOutputLength: LIMITS.backtest.fileBytesMax }) : bytes).toString("utf8");
  } catch (thrown) {
    throw badFile(file, fileTrouble(thrown));
  }
}
