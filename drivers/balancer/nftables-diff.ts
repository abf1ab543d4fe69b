/**
 * What separates the ruleset the kernel holds from the one that must hold, as one nft transaction. Pure.
 */
import { createHash } from "node:crypto";
import type { Chain, DeclaredMap, LearnedMap, Ruleset } from "./nftables-ruleset.ts";

/** What is known of the kernel's table: chains by the digest of their rules, maps by their elements. */
export interface Held {
  readonly owner: string | undefined;
  readonly counters: ReadonlySet<string>;
  readonly learned: ReadonlySet<string>;
  readonly declared: ReadonlyMap<string, ReadonlyMap<string, string>>;
  /** Name -> digest; an empty digest stands for rules that are not ours. */
  readonly chains: ReadonlyMap<string, string>;
}

export const NOTHING_HELD: Held = {
  owner: undefined,
  counters: new Set(),
  learned: new Set(),
  declared: new Map(),
  chains: new Map(),
};

/** Elements in one command; longer lists are split, inside the same transaction. */
const ELEMENTS_PER_COMMAND = 4_096;
/** Chain whose only rule carries the owner's name. */
const OWNER_CHAIN = "owner";

/** Changes that lead from `held` to `wanted`; empty when there are none. Chains in `rewrite` are written whatever their digest. */
export function transaction(held: Held, wanted: Ruleset): string {
  const lines: string[] = [];
  const { table } = wanted;
  if (held.owner !== wanted.owner) {
    lines.push(
      `add table ${table}`,
      ...chainLines(table, { name: OWNER_CHAIN, rules: [`return comment "owner:${wanted.owner}"`] }),
    );
  }
  for (const counter of wanted.counters) if (!held.counters.has(counter)) lines.push(`add counter ${table} ${counter}`);
  for (const map of wanted.learned) if (!held.learned.has(map.name)) lines.push(learnedLine(table, map));
  for (const map of wanted.declared) {
    if (!held.declared.has(map.name)) lines.push(`add map ${table} ${map.name} { ${typeText(map.type)}; }`);
  }

  const changed = wanted.chains.filter((chain) => held.chains.get(chain.name) !== chainDigest(chain));
  // Chains refer to one another, so all are made before the first rule.
  lines.push(...changed.map((chain) => declaration(table, chain)));
  for (const chain of changed) lines.push(...chainLines(table, chain).slice(1));
  for (const map of wanted.declared) lines.push(...elementLines(table, map, held.declared.get(map.name) ?? new Map()));

  const names = new Set(wanted.chains.map((chain) => chain.name));
  const gone = [...held.chains.keys()].filter((name) => !names.has(name) && name !== OWNER_CHAIN);
  lines.push(...gone.map((name) => `flush chain ${table} ${name}`), ...gone.map((name) => `delete chain ${table} ${name}`));
  for (const counter of held.counters) if (!wanted.counters.includes(counter)) lines.push(`delete counter ${table} ${counter}`);
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

/** What the kernel holds once `transaction(…, ruleset)` is committed. */
export function heldAfter(ruleset: Ruleset): Held {
  return {
    owner: ruleset.owner,
    counters: new Set(ruleset.counters),
    learned: new Set(ruleset.learned.map((map) => map.name)),
    declared: new Map(ruleset.declared.map((map) => [map.name, map.elements])),
    chains: new Map(ruleset.chains.map((chain) => [chain.name, chainDigest(chain)])),
  };
}

/** Parses `nft -t list table` (elements of declared maps come separately, as `nft -j list map` gives them). */
export function parseTable(text: string, elements: ReadonlyMap<string, ReadonlyMap<string, string>>): Held {
  const counters = new Set<string>();
  const maps = new Set<string>();
  const chains = new Map<string, string>();
  let owner: string | undefined;
  for (const [, kind, name, body] of text.matchAll(/^\t(counter|map|chain) (\S+) \{\n([\s\S]*?)^\t\}/gm)) {
    if (kind === undefined || name === undefined || body === undefined) continue;
    if (kind === "counter") counters.add(name);
    else if (kind === "map") maps.add(name);
    else if (name === OWNER_CHAIN) owner = /comment "owner:([^"]*)"/.exec(body)?.[1];
    else chains.set(name, commonDigest(body));
  }
  const declared = new Map([...elements].filter(([name]) => maps.has(name)));
  const learned = new Set([...maps].filter((name) => !declared.has(name)));
  return { owner, counters, learned, declared, chains };
}

/** Elements as `nft -j list map` prints them, in the form in which rulesets state them. */
export function parseElements(json: string): Map<string, string> {
  const elements = new Map<string, string>();
  const answer = JSON.parse(json) as { nftables?: readonly { map?: { elem?: readonly [unknown, unknown][] } }[] };
  for (const { map } of answer.nftables ?? []) {
    for (const [key, value] of map?.elem ?? []) elements.set(keyText(key), valueText(value));
  }
  return elements;
}

function keyText(key: unknown): string {
  if (typeof key === "object" && key !== null) {
    if ("concat" in key && Array.isArray(key.concat)) return key.concat.map(String).join(" . ");
    if ("elem" in key && typeof key.elem === "object" && key.elem !== null && "val" in key.elem) return keyText(key.elem.val);
  }
  return String(key);
}

function valueText(value: unknown): string {
  if (typeof value !== "object" || value === null) return String(value);
  const [verb, target] = Object.entries(value)[0] ?? ["", null];
  return typeof target === "object" && target !== null && "target" in target ? `${verb} ${String(target.target)}` : verb;
}

function elementLines(table: string, map: DeclaredMap, held: ReadonlyMap<string, string>): string[] {
  if (map.elements === held) return [];
  const removed: string[] = [];
  const added: string[] = [];
  for (const [key, value] of held) if (map.elements.get(key) !== value) removed.push(key);
  for (const [key, value] of map.elements) if (held.get(key) !== value) added.push(`${key} : ${value}`);
  return [...elementCommands("delete", table, map.name, removed), ...elementCommands("add", table, map.name, added)];
}

export function elementCommands(verb: "add" | "delete", table: string, map: string, elements: readonly string[]): string[] {
  const lines: string[] = [];
  for (let at = 0; at < elements.length; at += ELEMENTS_PER_COMMAND) {
    lines.push(`${verb} element ${table} ${map} { ${elements.slice(at, at + ELEMENTS_PER_COMMAND).join(", ")} }`);
  }
  return lines;
}

/** A key that no type of nftables has a name for is declared by an expression. */
function typeText(type: string): string {
  return type.startsWith("typeof ") ? type : `type ${type}`;
}

function learnedLine(table: string, map: LearnedMap): string {
  return `add map ${table} ${map.name} { ${map.spec} }`;
}

function declaration(table: string, chain: Chain): string {
  const hook =
    chain.device === undefined ? "" : ` { type filter hook ingress device "${chain.device}" priority 0; policy accept; }`;
  return `add chain ${table} ${chain.name}${hook}`;
}

function chainLines(table: string, chain: Chain): string[] {
  const digest = chainDigest(chain);
  const mark = chain.name === OWNER_CHAIN ? "" : ` comment "fs:${digest}"`;
  return [
    declaration(table, chain),
    `flush chain ${table} ${chain.name}`,
    ...chain.rules.map((rule) => `add rule ${table} ${chain.name} ${rule}${mark}`),
  ];
}

/** Covers the rules and how many they are, so that a rule added or removed by hand is noticed. */
export function chainDigest(chain: Chain): string {
  const text = JSON.stringify([chain.device ?? "", chain.binding ?? "", chain.rules]);
  return `${createHash("sha256").update(text).digest("hex").slice(0, 12)}.${chain.rules.length}`;
}

function commonDigest(body: string): string {
  const rules = body.split("\n").filter((line) => line.trim() !== "" && !line.trim().startsWith("type filter hook"));
  const digests = new Set(rules.map((line) => /comment "fs:([^"]*)"/.exec(line)?.[1] ?? ""));
  const [digest] = digests;
  if (digests.size !== 1 || digest === undefined) return "";
  return digest.endsWith(`.${rules.length}`) ? digest : "";
}
