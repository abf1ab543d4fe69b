/**
 * Counters of errors that kernel and hardware keep: of the network namespace, which is the endpoint's, and of the machine it runs on.
 */
import { LIMITS } from "../../models/limits.ts";
import { fileNumber, fileText, namesIn } from "./proc-files.ts";

export type Counters = Record<string, number>;

/** Name on the wire of fields of /proc/net/snmp and /proc/net/snmp6; several of one name are added up. */
const NETWORK_ERRORS: Readonly<Record<string, string>> = {
  "Udp InErrors": "udpInErrors",
  "Udp RcvbufErrors": "udpReceiveBufferErrors",
  "Udp SndbufErrors": "udpSendBufferErrors",
  "Udp NoPorts": "udpNoPorts",
  "Ip InDiscards": "ipInDiscards",
  "Ip OutDiscards": "ipOutDiscards",
  "Ip OutNoRoutes": "ipNoRoutes",
  "Tcp RetransSegs": "tcpRetransmits",
  Udp6InErrors: "udpInErrors",
  Udp6RcvbufErrors: "udpReceiveBufferErrors",
  Udp6SndbufErrors: "udpSendBufferErrors",
  Udp6NoPorts: "udpNoPorts",
  Ip6InDiscards: "ipInDiscards",
  Ip6OutDiscards: "ipOutDiscards",
  Ip6OutNoRoutes: "ipNoRoutes",
};

/** Columns of /proc/net/dev. */
const INTERFACE_COLUMNS = {
  interfaceRxBytes: 0,
  interfaceRxPackets: 1,
  interfaceRxErrors: 2,
  interfaceRxDrops: 3,
  interfaceTxBytes: 8,
  interfaceTxPackets: 9,
  interfaceTxErrors: 10,
  interfaceTxDrops: 11,
} as const;

export interface InterfaceCounters {
  readonly name: string;
  readonly columns: readonly number[];
}

/** All interfaces but the loopback. */
export function readInterfaces(): readonly InterfaceCounters[] {
  const lines = (fileText("/proc/self/net/dev") ?? "").split("\n").slice(2);
  return lines.flatMap((line) => {
    const at = line.indexOf(":");
    const name = line.slice(0, Math.max(0, at)).trim();
    return at < 0 || name === "lo"
      ? []
      : [
          {
            name,
            columns: line
              .slice(at + 1)
              .trim()
              .split(/\s+/)
              .map(Number),
          },
        ];
  });
}

/** `interfaceRxBytes:eth0` …; of more interfaces than the limit, the first. */
export function interfaceCounters(interfaces: readonly InterfaceCounters[]): Counters {
  const counters: Counters = {};
  for (const { name, columns } of interfaces.slice(0, LIMITS.agent.interfacesMax)) {
    for (const [counter, column] of Object.entries(INTERFACE_COLUMNS)) counters[`${counter}:${name}`] = columns[column] ?? 0;
  }
  return counters;
}

export function networkErrors(): Counters {
  const counters: Counters = {};
  const count = (field: string, value: number) => {
    const name = Object.hasOwn(NETWORK_ERRORS, field) ? NETWORK_ERRORS[field] : undefined;
    if (name !== undefined && Number.isFinite(value)) counters[name] = (counters[name] ?? 0) + value;
  };
  const lines = (fileText("/proc/self/net/snmp") ?? "").split("\n");
  // Two lines a protocol: names, then values.
  for (let at = 0; at + 1 < lines.length; at += 2) {
    const [names, values] = [lines[at]?.split(" ") ?? [], lines[at + 1]?.split(" ") ?? []];
    const protocol = names[0]?.replace(":", "") ?? "";
    for (const [column, name] of names.entries()) if (column > 0) count(`${protocol} ${name}`, Number(values[column]));
  }
  for (const line of (fileText("/proc/self/net/snmp6") ?? "").split("\n")) {
    const [name = "", value] = line.split(/\s+/);
    count(name, Number(value));
  }
  return counters;
}

/** Where the machine keeps its counters; found once, as hardware does not come and go. */
export class MachineErrors {
  readonly #corrected = edac("ce_count");
  readonly #uncorrected = edac("ue_count");
  readonly #throttles = namesIn("/sys/devices/system/cpu")
    .filter((name) => /^cpu\d+$/.test(name))
    .map((name) => `/sys/devices/system/cpu/${name}/thermal_throttle/core_throttle_count`);
  readonly #disks = namesIn("/sys/block").map((name) => `/sys/block/${name}/device/ioerr_cnt`);
  readonly #cgroup: string | undefined;

  constructor(cgroup: string | undefined) {
    this.#cgroup = cgroup;
    this.#throttles = this.#throttles.filter((path) => fileNumber(path) !== undefined);
    this.#disks = this.#disks.filter((path) => fileNumber(path) !== undefined);
  }

  read(): Counters {
    const found: [string, number | undefined][] = [
      ["softnetDrops", softnetDrops()],
      ["oomKills", this.#oomKills()],
      ["memoryCorrectedErrors", sum(this.#corrected)],
      ["memoryUncorrectedErrors", sum(this.#uncorrected)],
      ["thermalThrottles", sum(this.#throttles)],
      ["diskErrors", sum(this.#disks)],
    ];
    return Object.fromEntries(found.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
  }

  #oomKills(): number | undefined {
    const own = this.#cgroup === undefined ? undefined : fileText(`${this.#cgroup}/memory.events`);
    const count = /^oom_kill (\d+)/m.exec(own ?? fileText("/proc/vmstat") ?? "")?.[1];
    return count === undefined ? undefined : Number(count);
  }
}

/** Second column of each CPU's line, hexadecimal: packets dropped because its queue was full. */
function softnetDrops(): number | undefined {
  const text = fileText("/proc/self/net/softnet_stat");
  if (text === undefined) return undefined;
  const lines = text.split("\n").filter((line) => line !== "");
  return lines.reduce((total, line) => total + Number.parseInt(line.split(" ")[1] ?? "0", 16), 0);
}

function edac(file: string): readonly string[] {
  const root = "/sys/devices/system/edac/mc";
  const paths = namesIn(root).map((controller) => `${root}/${controller}/${file}`);
  return paths.filter((path) => fileNumber(path) !== undefined);
}

/** Undefined of no file: that nothing is counted is not that nothing happens. */
function sum(paths: readonly string[]): number | undefined {
  if (paths.length === 0) return undefined;
  return paths.reduce((total, path) => total + (fileNumber(path) ?? 0), 0);
}
