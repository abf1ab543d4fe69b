/** Prometheus' text format 0.0.4. */

export interface MetricFamily {
  readonly name: string;
  readonly kind: "counter" | "gauge";
  /** By label, e.g. `{grain="minute"}`, or the one value without any; undefined values are left out. */
  readonly values: readonly (readonly [label: string, value: number | undefined])[];
}

export const METRICS_TYPE = "text/plain; version=0.0.4";

export function one(name: string, kind: MetricFamily["kind"], value: number | undefined): MetricFamily {
  return { name, kind, values: [["", value]] };
}

/** A family without values is left out. */
export function textOf(families: readonly MetricFamily[]): string {
  return families
    .map(({ name, kind, values }) => {
      const known = values.filter(([, value]) => value !== undefined);
      if (known.length === 0) return "";
      return `# TYPE ${name} ${kind}\n${known.map(([label, value]) => `${name}${label} ${value}\n`).join("")}`;
    })
    .join("");
}
