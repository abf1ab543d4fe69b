/** What the reflex tells Prometheus (text format 0.0.4). */
import type { ProbeStats } from "../../models/steering.ts";
import type { Reflex } from "./reflex.ts";

const STEERED = new Set(["by_session", "by_pin", "by_client", "by_hash", "unknown_index", "dropped"]);

export async function metricsText(reflex: Reflex): Promise<string> {
  const lines: string[] = [];
  const family = (...of: Parameters<typeof familyLines>) => lines.push(...familyLines(...of));
  const health = reflex.health();
  const each = (pick: (member: (typeof health)[number]) => number | undefined) =>
    health.map((member) => [`{endpoint="${member.endpoint}"}`, pick(member)] as const);
  const probes = (pick: (stats: ProbeStats) => number | undefined) =>
    health.flatMap(({ endpoint, inner, outer }) => [
      [`{endpoint="${endpoint}",probe="inner"}`, pick(inner)] as const,
      [`{endpoint="${endpoint}",probe="outer"}`, pick(outer)] as const,
    ]);
  const counters = await reflex.steerCounters();

  family("epoch", "gauge", "Epoch of the desired state in force.", [["", reflex.desired?.epoch ?? 0]]);
  family("panic", "gauge", "1 while so many members are silent that nobody is ejected.", [["", reflex.inPanic ? 1 : 0]]);
  family(
    "weight",
    "gauge",
    "Weight in force.",
    each((member) => member.effectiveWeight),
  );
  family(
    "ejected",
    "gauge",
    "1 while the member is ejected.",
    each((member) => (member.ejected ? 1 : 0)),
  );
  const overloaded = each((member) => (member.overloaded === true ? 1 : 0));
  family("overloaded", "gauge", "1 while the member loses probes and is at work all the same.", overloaded);
  family(
    "ejections_total",
    "counter",
    "Ejections of the member.",
    each((member) => member.ejections),
  );
  family(
    "sessions",
    "gauge",
    "Sessions whose keys the member holds.",
    each((member) => member.sessions),
  );
  family("probe_loss_ratio", "gauge", "Share of the probes of the last seconds that were not answered.", probes(lossOf));
  family(
    "probe_rtt_seconds",
    "gauge",
    "Median round trip of the last seconds.",
    probes((stats) => seconds(stats.rttMsP50)),
  );
  family(
    "probe_rtt_max_seconds",
    "gauge",
    "Longest round trip of the last seconds.",
    probes((stats) => seconds(stats.rttMsMax)),
  );
  family(
    "steered_packets_total",
    "counter",
    "Packets by what decided where they went.",
    [...counters].filter(([name]) => STEERED.has(name)).map(([name, packets]) => [`{by="${name}"}`, packets] as const),
  );
  family(
    "member_packets_total",
    "counter",
    "Packets that were forwarded to the member.",
    each((member) => counters.get(`member_${reflex.slotOf(member.endpoint)}`)),
  );
  return `${lines.join("\n")}\n`;
}

function familyLines(
  name: string,
  type: "gauge" | "counter",
  help: string,
  samples: readonly (readonly [string, number | undefined])[],
): string[] {
  const present = samples.filter(([, value]) => value !== undefined);
  return [
    `# HELP foreshift_reflex_${name} ${help}`,
    `# TYPE foreshift_reflex_${name} ${type}`,
    ...present.map(([labels, value]) => `foreshift_reflex_${name}${labels} ${value}`),
  ];
}

function lossOf(stats: ProbeStats): number | undefined {
  return stats.sent === 0 ? undefined : 1 - stats.answered / stats.sent;
}

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1000;
}
