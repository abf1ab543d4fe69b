/** Reads the failure engine's table, `unit,time,ttf,<numeric columns>`, into arrays; lines are parsed one by one to spare memory. */
import type { UnitTable } from "../models/failure/table.ts";
import { badFile, readText } from "./table.ts";

const FIRST_COLUMNS = ["unit", "time", "ttf"];

interface Line {
  readonly unit: number;
  readonly time: number;
  readonly timeToFailure: number;
  /** Row of `cells`. */
  readonly at: number;
}

/**
 * The rows come in the order of unit (as first met) and time. With `columns` the table has exactly those, in that order: others are left
 * out, and one that is missing is an error.
 */
export async function readUnitTable(file: string, columns?: readonly string[]): Promise<UnitTable> {
  const text = await readText(file);
  const headEnd = endOfLine(text, 0);
  const head = trimmed(text, 0, headEnd).split(",");
  const wanted = columns ?? head.filter((name) => !FIRST_COLUMNS.includes(name));
  const places = [...FIRST_COLUMNS, ...wanted].map((name) => {
    const place = head.indexOf(name);
    if (place < 0) throw badFile(file, `it has no column ${JSON.stringify(name)}; its columns are ${head.join(",")}`);
    if (head.indexOf(name, place + 1) >= 0) throw badFile(file, `the column ${JSON.stringify(name)} is there twice`);
    return place;
  });
  if (wanted.length === 0) throw badFile(file, "it has no numeric column beside unit, time and ttf");
  const parser = new LineParser(file, head, places);
  let number = 1;
  for (let start = headEnd + 1; start < text.length; ) {
    const end = endOfLine(text, start);
    number++;
    const line = trimmed(text, start, end);
    if (line !== "") parser.parse(line, number);
    start = end + 1;
  }
  return parser.table(wanted);
}

function endOfLine(text: string, start: number): number {
  const end = text.indexOf("\n", start);
  return end < 0 ? text.length : end;
}

function trimmed(text: string, start: number, end: number): string {
  return text.slice(start, text[end - 1] === "\r" ? end - 1 : end);
}

class LineParser {
  readonly #file: string;
  readonly #head: readonly string[];
  readonly #places: readonly number[];
  readonly #units = new Map<string, number>();
  readonly #lines: Line[] = [];
  #cells = new Float64Array(0);

  constructor(file: string, head: readonly string[], places: readonly number[]) {
    this.#file = file;
    this.#head = head;
    this.#places = places;
  }

  parse(line: string, number: number): void {
    const cells = line.split(",");
    if (cells.length !== this.#head.length) {
      throw badFile(this.#file, `line ${number} has ${cells.length} cells, expected ${this.#head.length}`);
    }
    const [unitPlace = 0, timePlace = 0, ttfPlace = 0, ...others] = this.#places;
    const name = cells[unitPlace] as string;
    if (name === "") throw badFile(this.#file, `line ${number} names no unit`);
    const unit = this.#units.get(name) ?? this.#units.size;
    this.#units.set(name, unit);
    const time = this.#number(cells, timePlace, number);
    if (Number.isNaN(time)) throw badFile(this.#file, `line ${number} has no time`);
    const left = this.#number(cells, ttfPlace, number);
    if (left < 0) throw badFile(this.#file, `line ${number}, column ttf: ${left} is negative`);
    const width = others.length;
    const at = this.#lines.length;
    this.#lines.push({ unit, time, timeToFailure: Number.isNaN(left) ? Number.POSITIVE_INFINITY : left, at });
    if ((at + 1) * width > this.#cells.length) this.#grow((at + 1) * width);
    for (let i = 0; i < width; i++) this.#cells[at * width + i] = this.#number(cells, others[i] as number, number);
  }

  table(columns: readonly string[]): UnitTable {
    if (this.#lines.length === 0) throw badFile(this.#file, "it has no rows");
    const width = columns.length;
    const lines = this.#lines.sort((a, b) => a.unit - b.unit || a.time - b.time || a.at - b.at);
    const cells = new Float64Array(lines.length * width);
    lines.forEach(({ at }, row) => {
      cells.set(this.#cells.subarray(at * width, (at + 1) * width), row * width);
    });
    return {
      columns,
      rows: lines.length,
      cells,
      unit: Int32Array.from(lines, ({ unit }) => unit),
      units: this.#units.size,
      time: Float64Array.from(lines, ({ time }) => time),
      timeToFailure: Float64Array.from(lines, ({ timeToFailure }) => timeToFailure),
    };
  }

  #number(cells: readonly string[], place: number, number: number): number {
    const cell = cells[place] as string;
    if (cell === "") return Number.NaN;
    const value = Number(cell);
    if (Number.isFinite(value)) return value;
    throw badFile(this.#file, `line ${number}, column ${this.#head[place]}: ${JSON.stringify(cell)} is not a number`);
  }

  #grow(needed: number): void {
    const larger = new Float64Array(Math.max(needed, this.#cells.length * 2, 1 << 16));
    larger.set(this.#cells);
    this.#cells = larger;
  }
}
