/**
 * ESP of one client waits at this machine while SAs are made with it. A client that has answered an IKE request sends by the SAs that came of it
 * before its answer has arrived here, and until then nobody could read what it sends.
 *
 * What comes in is led through a queue that is plugged (tc-plug), and unplugged once the SAs are there: nothing is lost and the order stays. The
 * plug is held by a program that ends, and opens it, when whoever holds it ends.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { ForeshiftError } from "../../models/errors.ts";
import { IPSEC_LIMITS } from "../../models/limits-ipsec.ts";

export interface EspHold {
  /** From here on ESP of the client (IPv4) waits, until what is answered is called. One client at a time. COMMAND_FAILED where it cannot. */
  hold(client: string): Promise<() => Promise<void>>;
  /** Once, before anything is held: what a process before this one may have left plugged is open again. COMMAND_FAILED where nothing can be held. */
  open(): Promise<void>;
}

const DEVICE = "fs-hold";
const ERROR_CHARS_MAX = 1_024;
const UNPLUG = `tc qdisc change dev ${DEVICE} root plug release_indefinite`;
/** IKE inside UDP 4500 begins with a word of zeros (RFC 3948), and is what the SAs are made by: it does not wait. */
const RULES = [
  [4_791, "match ip protocol 17 0xff match ip dport 4500 0xffff match u32 0 0xffffffff at 28 action ok"],
  [4_792, `match ip protocol 17 0xff match ip dport 4500 0xffff action mirred egress redirect dev ${DEVICE}`],
  [4_793, `match ip protocol 50 0xff action mirred egress redirect dev ${DEVICE}`],
] as const;
const rule = (verb: "add" | "del") =>
  RULES.map(([priority, what]) => {
    const common = `filter ${verb} dev $device ingress prio ${priority} protocol ip`;
    return verb === "del" ? common : `${common} u32 match ip src $client/32 ${what}`;
  }).join("\n");

/** The client's ESP comes in by the device that leads to it. What a hold before left is taken out first. */
const HOLD = `client=$1
set -- $(ip -o route get "$client")
while [ "$1" != dev ]; do shift; done
device=$2
tc -force -batch - >/dev/null 2>&1 <<END || true
qdisc add dev $device clsact
qdisc del dev ${DEVICE} root
${rule("del")}
END
tc -batch - <<END
qdisc add dev ${DEVICE} root plug limit ${IPSEC_LIMITS.holdBytesMax}
${rule("add")}
END
echo held
read -r _ || true
${UNPLUG}
tc -force -batch - <<END || true
${rule("del")}
END`;

/** The kernel loads the code of queues and rules when they are first used, which takes a slow machine a second: so they are, by packets of nobody's. */
const OPEN = `client=192.0.2.1
device=${DEVICE}
[ -e /sys/class/net/${DEVICE} ] || ip link add ${DEVICE} type ifb
ip link set ${DEVICE} up
tc -force -batch - >/dev/null 2>&1 <<END || true
qdisc add dev ${DEVICE} root plug limit ${IPSEC_LIMITS.holdBytesMax}
qdisc change dev ${DEVICE} root plug release_indefinite
qdisc add dev ${DEVICE} clsact
${rule("add")}
${rule("del")}
END
tc qdisc show dev ${DEVICE} root | { read -r _ kind _; [ "$kind" = plug ]; }`;

export function espHold(): EspHold {
  return {
    hold: async (client) => {
      const program = start(HOLD, client);
      await orUnplugged(() => plugged(program));
      return async () => {
        program.child.stdin.end();
        await orUnplugged(() => within(program.child, program.ended));
      };
    },
    open: async () => {
      const { child, ended } = start(OPEN);
      await within(child, ended);
    },
  };
}

/** Nothing waits for a program that failed, or was ended because it took too long. */
async function orUnplugged(what: () => Promise<void>): Promise<void> {
  try {
    await what();
  } catch (thrown) {
    const { child, ended } = start(UNPLUG);
    await within(child, ended).catch(() => undefined);
    throw thrown;
  }
}

interface Program {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  /** Rejects with what it complained of when it fails. */
  readonly ended: Promise<void>;
  /** It has said that ESP waits. */
  readonly held: Promise<void>;
}

function start(script: string, ...args: readonly string[]): Program {
  const child = spawn("sh", ["-euc", script, "sh", ...args], { stdio: ["pipe", "pipe", "pipe"] });
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors = (errors + text).slice(-ERROR_CHARS_MAX)));
  child.stdin.on("error", () => undefined);
  const held = new Promise<void>((resolve) => child.stdout.once("data", () => resolve()));
  child.stdout.resume();
  const ended = new Promise<void>((resolve, reject) => {
    child.once("error", (error) => reject(failed(error.message)));
    child.once("close", (status) => (status === 0 ? resolve() : reject(failed(`exit status ${status}: ${errors.trim()}`))));
  });
  ended.catch(() => undefined);
  return { child, ended, held };
}

async function plugged({ child, ended, held }: Program): Promise<void> {
  const tooSoon = ended.then(() => Promise.reject(failed("it ended before anything waited")));
  await within(child, Promise.race([held, tooSoon]));
}

async function within(child: Program["child"], what: Promise<void>): Promise<void> {
  const late = setTimeout(() => child.kill("SIGKILL"), IPSEC_LIMITS.holdTimeoutMs);
  try {
    await what;
  } finally {
    clearTimeout(late);
  }
}

function failed(detail: string): ForeshiftError {
  return new ForeshiftError("COMMAND_FAILED", { field: "tc", detail });
}
