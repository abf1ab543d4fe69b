/** Anomalies in words: metric, value, what was expected, and what the others show. */
import type { Case } from "./case.ts";

/** One sentence, e.g. "innerRttMsP75 is 48.2 ms, expected 10.1 to 14.3 ms; its peers are at 12 ms". */
export function caseText(one: Case, unitOf: (series: string) => string, also: readonly string[]): string {
  if (one.isJoint) return `${list(one.metrics)} do not go together as they used to, once in ${figure(10 ** one.peak)}`;
  const [metric = ""] = one.metrics;
  const unit = unitOf(metric);
  const expected = `expected ${one.low === one.high ? quantity(one.low, unit) : `${figure(one.low)} to ${quantity(one.high, unit)}`}`;
  const rest = also.length === 0 ? "" : `; ${list(also)} ${also.length === 1 ? "is" : "are"} unusual too`;
  return `${metric} is ${quantity(one.value, unit)}, ${expected}${peers(one, unit)}${rest}`;
}

function peers({ scope, peerMedian, showing, reporting }: Case, unit: string): string {
  if (peerMedian === undefined) return "";
  const at = `its peers are at ${quantity(peerMedian, unit)}`;
  return scope === "everybody"
    ? `; ${at} and ${showing} of ${reporting} endpoints show the same, so the cause lies outside it`
    : `; ${at}`;
}

function list(names: readonly string[]): string {
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

function quantity(value: number, unit: string): string {
  if (unit === "share") return `${figure(value * 100)} %`;
  return unit === "" || unit === "count" ? figure(value) : `${figure(value)} ${unit}`;
}

/** Three significant digits. */
function figure(value: number): string {
  return String(Number(value.toPrecision(3)));
}
