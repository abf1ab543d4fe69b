/** What the stock WireGuard of the lab's clients is told: lines of shell. Keys go in by pipes, so that they show in no list of processes. */
import { randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { atDataPathPriority } from "../drivers/priority.ts";
import { ForeshiftError } from "../models/errors.ts";
import { INNER } from "./addresses.ts";
import type { ClientHost, Way } from "./client-host.ts";
import { type KeyPair, makeKeyPair } from "./keys.ts";
import type { Vip } from "./topology.ts";

/**
 * Each wireguard-go takes one of the inotify instances that Linux grants a user (128 by default). Up to this many sessions there are
 * enough for everybody; beyond it each host's WireGuard runs as a user of its own, from this number up.
 */
const ONE_USER_SESSIONS_MAX = 64;
const FIRST_USER_ID = 2_000_000_000;
/** Left for the endpoints and whatever else the person runs. */
const INOTIFY_INSTANCES_SPARED = 48;
/** Tenths of a second that a session by another way has for its handshake. */
const HANDSHAKE_TURNS = 50;

export class ClientWireguard {
  readonly #vip: Vip;
  readonly #sessions: number;

  constructor({ vip, sessions }: { readonly vip: Vip; readonly sessions: number }) {
    this.#vip = vip;
    this.#sessions = sessions;
  }

  start({ client }: ClientHost, device: string): string {
    const as = this.#sessions > ONE_USER_SESSIONS_MAX && isRealRoot() ? asUser(FIRST_USER_ID + client.number) : "";
    return `export WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD=1 LOG_LEVEL=silent
chmod 1777 /run/wireguard
${atDataPathPriority([as, "wireguard-go", device]).join(" ")} 2>/dev/null`;
  }

  /** Of each session's first way. */
  configs({ client, keys, ways }: ClientHost): readonly string[] {
    return ways.flatMap(([way], k) => (way === undefined ? [] : [this.config(way, keys[k], client.family)]));
  }

  config({ device, port, publicKey }: Way, keys: KeyPair | undefined, family: 4 | 6): string {
    const { v4, v6 } = this.#vip;
    return `wg setconf ${device} /dev/stdin <<'END'
[Interface]
PrivateKey = ${keys?.privateKey ?? ""}
[Peer]
PublicKey = ${publicKey}
Endpoint = ${family === 6 && v6 !== undefined ? `[${v6}]:${port}` : `${v4}:${port}`}
AllowedIPs = ${INNER.servers}
END`;
  }
}

/** With `anew` the device also begins to shake hands: it expires its sessions for sending, and receives on. */
export function settingPresharedKey(
  { device, publicKey: swarm }: Way,
  own: string,
  presharedKey: string,
  anew: boolean,
): string {
  const peer = `peer ${swarm} preshared-key /dev/fd/4`;
  const set = `wg set ${device} private-key /dev/fd/3 ${peer} 3<<'OWN' 4<<'SHARED'\n${own}\nOWN\n${presharedKey}\nSHARED`;
  return anew ? `${settingKey(device, makeKeyPair().privateKey)}\n${set}` : set;
}

/** Nothing is sent by this way yet: a keepalive is what shakes hands, and an answer is what comes of it. */
export function shakingHands({ device, publicKey }: Way): readonly string[] {
  const received = `$(wg show ${device} transfer | cut -f2)`;
  return [
    `before=${received}`,
    `wg set ${device} peer ${publicKey} persistent-keepalive 1`,
    `for turn in $(seq ${HANDSHAKE_TURNS}); do [ "${received}" != "$before" ] && break; sleep 0.1; done`,
    `[ "${received}" != "$before" ]`,
    `wg set ${device} peer ${publicKey} persistent-keepalive 0`,
  ];
}

/** A newer handshake than by the other way, so that endpoints and balancer send by this one; what comes meanwhile is still opened. */
export function renewing(way: Way, keys: KeyPair | undefined): readonly string[] {
  const set = (key: string) => settingKey(way.device, key);
  return [set(makeKeyPair().privateKey), set(keys?.privateKey ?? ""), ...shakingHands(way)];
}

export function listenOn(device: string, port: number | undefined): string {
  return `wg set ${device} listen-port ${port ?? randomInt(20_000, 60_000)}`;
}

function settingKey(device: string, privateKey: string): string {
  return `wg set ${device} private-key /dev/fd/3 3<<'KEY'\n${privateKey}\nKEY`;
}

/** A user of its own with the one right that WireGuard needs. */
function asUser(id: number): string {
  return `setpriv --reuid ${id} --regid ${id} --clear-groups --inh-caps +net_admin --ambient-caps +net_admin --`;
}

/** Root of the machine, not of a user namespace, whose processes all count as one user's. */
function isRealRoot(): boolean {
  return /^\s*0\s+0\s+4294967295/.test(readFileSync("/proc/self/uid_map", "utf8"));
}

/** INVALID_FIELD when there are not enough for so many. */
export function checkInotify(sessions: number): void {
  const granted = Number(readFileSync("/proc/sys/fs/inotify/max_user_instances", "utf8"));
  const needed = sessions + INOTIFY_INSTANCES_SPARED;
  if (isRealRoot() || needed <= granted) return;
  const detail = `each needs an inotify instance and this user has ${granted}; as root: sysctl fs.inotify.max_user_instances=${needed}`;
  throw new ForeshiftError("INVALID_FIELD", { field: "sessions", value: sessions, detail });
}
