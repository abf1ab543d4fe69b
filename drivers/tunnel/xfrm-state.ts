/**
 * SAs as `ip -s xfrm state` prints them, and as `ip -batch -` takes them (iproute2 6.1). Keys pass through standard input and output alone,
 * never an argument. A line that is not known is refused: half an SA must not be installed somewhere else.
 */
import { ForeshiftError } from "../../models/errors.ts";
import { IPSEC_LIMITS } from "../../models/limits-ipsec.ts";

/** An algorithm with its key; `bits` is the length of the integrity check where the kind has one. */
export interface XfrmAlgorithm {
  readonly kind: "aead" | "auth-trunc" | "enc";
  readonly name: string;
  /** Hexadecimal with 0x, or empty (`nokeys`). */
  readonly key: string;
  readonly bits?: number;
}

export interface XfrmState {
  readonly source: string;
  readonly destination: string;
  readonly spi: number;
  readonly reqid: number;
  readonly mode: "tunnel" | "transport";
  readonly esn: boolean;
  /** As the kernel has it for `flag`, without `esn`: af-unspec, noecn and the like. */
  readonly flags: readonly string[];
  readonly replayWindow: number;
  readonly algorithms: readonly XfrmAlgorithm[];
  readonly encapsulation?: { readonly sourcePort: number; readonly destinationPort: number } | undefined;
  /** Whole numbers, their upper halves included. */
  readonly inboundSequence: number;
  readonly outboundSequence: number;
  readonly seen: string;
  readonly bytes: number;
  readonly packets: number;
  readonly bytesMax?: number | undefined;
  readonly packetsMax?: number | undefined;
  /** Seconds after it was added. */
  readonly secondsMax?: number | undefined;
}

const WORD = 2 ** 32;
type Draft = { -readonly [Field in keyof XfrmState]: XfrmState[Field] };

/** Lines that say nothing of what is taken over: selectors are the policy's, and marks, offload and the kernel's own counts are its own. */
const PASSED_OVER =
  /^(lifetime config:|lifetime current:|stats:|limit: soft .*\(packets\), hard \(INF\)\(packets\)|expire use: .*|add .* use .*|replay-window \d+ replay \d+ failed \d+|dir (in|out)|output-mark .*|lastused .*)$/;

/** ESP SAs of one namespace. SAs in the making (without algorithms) are left out. */
export function parseXfrmStates(text: string): readonly XfrmState[] {
  if (text.length > IPSEC_LIMITS.outputCharsMax) throw refused("its length", `${text.length} characters`);
  const blocks = text.split(/^(?=src )/m).filter((block) => block.trim() !== "");
  return blocks.flatMap((block) => {
    const state = parseBlock(block);
    return state === undefined ? [] : [state];
  });
}

function parseBlock(block: string): XfrmState | undefined {
  const [head = "", ...lines] = block.split("\n").map((line) => line.trim());
  const addresses = /^src (\S+) dst (\S+)$/.exec(head);
  if (addresses?.[1] === undefined || addresses[2] === undefined) throw refused("a line", head);
  if (!lines.some((line) => line.startsWith("proto esp "))) return undefined;
  const draft: Partial<Draft> & { algorithms: XfrmAlgorithm[]; flags: string[] } = {
    source: addresses[1],
    destination: addresses[2],
    algorithms: [],
    flags: [],
    seen: "0",
  };
  const bitmap: string[] = [];
  for (const line of lines.filter((text) => text !== "")) {
    if (!PARSERS.some((parse) => parse(line, draft)) && !isBitmap(line, draft, bitmap) && !PASSED_OVER.test(line))
      throw refused("a line", hidden(line));
  }
  if (bitmap.length > 0) draft.seen = plainHex(bitmap.toReversed().join(""));
  if (draft.algorithms.length === 0) return undefined;
  return whole(draft);
}

const REQUIRED = ["spi", "reqid", "mode", "esn", "replayWindow", "inboundSequence", "outboundSequence", "bytes"] as const;

function whole(draft: Partial<Draft> & { algorithms: XfrmAlgorithm[]; flags: string[] }): XfrmState {
  for (const field of REQUIRED) if (draft[field] === undefined) throw refused(field, "nothing");
  return draft as XfrmState;
}

type LineParser = (line: string, draft: Partial<Draft> & { algorithms: XfrmAlgorithm[]; flags: string[] }) => boolean;

const PARSERS: readonly LineParser[] = [
  (line, draft) => {
    const match = /^proto esp spi 0x([0-9a-f]{8})(?:\(\d+\))? reqid (\d+)(?:\(0x[0-9a-f]+\))? mode (tunnel|transport)$/.exec(
      line,
    );
    if (match?.[1] === undefined) return false;
    // Two SAs that ran into one, because a line between them is missing.
    if (draft.spi !== undefined) throw refused("a line", line);
    draft.spi = Number.parseInt(match[1], 16);
    draft.reqid = Number(match[2]);
    draft.mode = match[3] as "tunnel" | "transport";
    return true;
  },
  (line, draft) => {
    const match = /^replay-window (\d+)(?: seq 0x[0-9a-f]+)?(?: flag +((?:[a-z0-9-]+ ?)*)(?:\(0x[0-9a-f]+\))?)?$/.exec(line);
    if (match?.[1] === undefined) return false;
    const flags = (match[2] ?? "").split(" ").filter((flag) => flag !== "");
    draft.esn = flags.includes("esn");
    draft.flags.push(...flags.filter((flag) => flag !== "esn"));
    draft.replayWindow ??= Number(match[1]);
    return true;
  },
  (line, draft) => {
    const match = /^(aead|auth-trunc|enc) (\S+)(?: (0x[0-9a-f]*|<<Keys hidden>>))?(?: \(\d+ bits\))?(?: (\d+))?$/.exec(line);
    if (match?.[1] === undefined || match[2] === undefined) return false;
    const kind = match[1] as XfrmAlgorithm["kind"];
    const key = match[3]?.startsWith("0x") === true ? match[3] : "";
    const bits = match[4] === undefined ? {} : { bits: Number(match[4]) };
    if ((kind === "enc") !== (match[4] === undefined)) return false;
    draft.algorithms.push({ kind, name: match[2], key, ...bits });
    return true;
  },
  (line, draft) => {
    const match = /^encap type espinudp sport (\d+) dport (\d+) addr \S+$/.exec(line);
    if (match === null) return false;
    draft.encapsulation = { sourcePort: Number(match[1]), destinationPort: Number(match[2]) };
    return true;
  },
  (line, draft) => {
    const match = /^anti-replay context: seq 0x([0-9a-f]+), oseq 0x([0-9a-f]+), bitmap 0x([0-9a-f]+)$/.exec(line);
    if (match?.[1] === undefined || match[2] === undefined || match[3] === undefined) return false;
    draft.inboundSequence = Number.parseInt(match[1], 16);
    draft.outboundSequence = Number.parseInt(match[2], 16);
    draft.seen = plainHex(match[3]);
    return true;
  },
  (line, draft) => {
    if (line === "anti-replay esn context:") return true;
    const counters = /^seq-hi 0x([0-9a-f]+), seq 0x([0-9a-f]+), oseq-hi 0x([0-9a-f]+), oseq 0x([0-9a-f]+)$/.exec(line);
    if (counters !== null) {
      const [seqHigh = 0, seq = 0, oseqHigh = 0, oseq = 0] = counters.slice(1).map((hex) => Number.parseInt(hex, 16));
      draft.inboundSequence = seqHigh * WORD + seq;
      draft.outboundSequence = oseqHigh * WORD + oseq;
      return true;
    }
    const window = /^replay_window (\d+), bitmap-length \d+$/.exec(line);
    if (window === null) return false;
    draft.replayWindow = Number(window[1]);
    return true;
  },
  (line, draft) => {
    const current = /^(\d+)\(bytes\), (\d+)\(packets\)$/.exec(line);
    if (current === null) return false;
    draft.bytes = Number(current[1]);
    draft.packets = Number(current[2]);
    return true;
  },
  (line, draft) => {
    const limit = /^limit: soft \S+\((bytes|packets)\), hard (\(INF\)|\d+)\((?:bytes|packets)\)$/.exec(line);
    if (limit === null) return false;
    if (limit[2] !== "(INF)") draft[limit[1] === "bytes" ? "bytesMax" : "packetsMax"] = Number(limit[2]);
    return true;
  },
  (line, draft) => {
    const expire = /^expire add: soft \d+\(sec\), hard (\d+)\(sec\)$/.exec(line);
    if (expire === null) return false;
    if (Number(expire[1]) > 0) draft.secondsMax = Number(expire[1]);
    return true;
  },
  (line) => /^sel src \S+ dst \S+(?: (?:proto|sport|dport|type|code|key|dev|uid) \S+)*$/.test(line),
];

/** Words of an ESN bitmap stand alone on their lines, the lowest first; elsewhere such a line is nothing known. */
function isBitmap(line: string, draft: Partial<Draft>, bitmap: string[]): boolean {
  if (draft.inboundSequence === undefined || !/^[0-9a-f]{8}( [0-9a-f]{8})*$/.test(line)) return false;
  bitmap.push(...line.split(" "));
  return true;
}

/** Lines for `ip -batch -` that install the SA with these counters. With `replay-seq` the window is empty: see models/ipsec/takeover.ts. */
export function addStateLine(state: XfrmState): string {
  const { encapsulation: encap } = state;
  const words = [
    `xfrm state add src ${state.source} dst ${state.destination} proto esp spi 0x${hex8(state.spi)} reqid ${state.reqid} mode ${state.mode}`,
    `replay-window ${state.replayWindow}`,
    ...halves("replay-seq", state.inboundSequence, state.esn),
    ...halves("replay-oseq", state.outboundSequence, state.esn),
    ...state.algorithms.map(({ kind, name, key, bits }) => `${kind} ${name} ${key}${bits === undefined ? "" : ` ${bits}`}`),
  ];
  const flags = [...state.flags, ...(state.esn ? ["esn"] : [])];
  if (flags.length > 0) words.push(`flag ${flags.join(" flag ")}`);
  if (encap !== undefined) words.push(`encap espinudp ${encap.sourcePort} ${encap.destinationPort} 0.0.0.0`);
  if (state.bytesMax !== undefined) words.push(`limit byte-hard ${state.bytesMax}`);
  if (state.packetsMax !== undefined) words.push(`limit packet-hard ${state.packetsMax}`);
  if (state.secondsMax !== undefined) words.push(`limit time-hard ${state.secondsMax}`);
  return words.join(" ");
}

export function deleteStateLine({ source, destination, spi }: Pick<XfrmState, "source" | "destination" | "spi">): string {
  return `xfrm state delete src ${source} dst ${destination} proto esp spi 0x${hex8(spi)}`;
}

function halves(name: string, sequence: number, esn: boolean): string[] {
  const low = `${name} 0x${(sequence % WORD).toString(16)}`;
  return esn ? [low, `${name}-hi 0x${Math.floor(sequence / WORD).toString(16)}`] : [low];
}

function hex8(spi: number): string {
  return spi.toString(16).padStart(8, "0");
}

function plainHex(hex: string): string {
  return hex.replace(/^0+(?=.)/, "");
}

/** What may be shown of a line that could hold a key. */
function hidden(line: string): string {
  return line.replace(/0x[0-9a-f]{16,}/gi, "0x…");
}

function refused(field: string, value: string): ForeshiftError {
  const detail = "`ip -s xfrm state` of iproute2 6.1 was expected";
  return new ForeshiftError("INVALID_FIELD", { field: `ip xfrm state: ${field}`, value, detail });
}
