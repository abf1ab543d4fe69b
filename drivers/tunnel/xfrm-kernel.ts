/**
 * The kernel's SAs and policies in this network namespace, by `ip` and `socat`: read once, followed by its own events, and installed.
 * What goes in may hold keys: it goes by standard input, and what `ip` complains of is not repeated.
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { isIPv4 } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { ForeshiftError } from "../../models/errors.ts";
import { IPSEC_LIMITS } from "../../models/limits-ipsec.ts";
import { runCommand } from "../run-command.ts";
import { type XfrmEvent, XfrmEventReader } from "./xfrm-events.ts";
import { type EventPace, eventPaceMessages } from "./xfrm-pace.ts";
import { parseXfrmStates, type XfrmState } from "./xfrm-state.ts";

/** As the agent needs it, so that a test may stand in for a kernel that has no ESP. */
export interface IpsecKernel {
  states(): Promise<readonly XfrmState[]>;
  /** In their order; none after one that fails, unless `anyway`. COMMAND_FAILED says which line, and nothing of what is in it. */
  batch(lines: readonly string[], options?: { readonly anyway: boolean }): Promise<void>;
  /** Until `signal` aborts. `onBreak` hears that the events ended, before they are followed anew: some may have been missed. */
  follow(onEvents: (events: readonly XfrmEvent[]) => void, onBreak: (why: string) => void, signal: AbortSignal): Promise<void>;
  /** The kernel speaks after so many packets of an SA, and so many tenths of a second after a smaller move. */
  setEventPace(packets: number, tenths: number): Promise<void>;
  /** The same of single SAs that have spoken before (xfrm-pace.ts). Those of IPv6 stay as they are. */
  setPaceOf(sas: readonly Pick<XfrmState, "destination" | "spi">[], pace: EventPace): Promise<void>;
}

const EVENTS = ["-u", "-b", "65536", "SOCKET-RECV:16:3:6:x00000000000016000000", "STDOUT"];
const SENDING = ["-u", "-", "SOCKET-SENDTO:16:3:6:x00000000000000000000"];
/** A pipe holds so many messages in one piece. */
const PACED_AT_ONCE = 50;
/** Of the kernel's own answers that `ip` passes on, those of one line; anything else may quote what it was given. */
const KERNEL_WORDS = /^RTNETLINK answers: [A-Za-z ,'-]{1,80}$/m;
const FAILED_LINE = /^Command failed -:(\d{1,6})$/m;
const ERROR_CHARS_MAX = 4_096;

export function xfrmKernel(): IpsecKernel {
  const batches = new Batches();
  return {
    states: async () =>
      parseXfrmStates(await runCommand("ip", ["-s", "xfrm", "state"], { timeoutMs: IPSEC_LIMITS.batchTimeoutMs })),
    batch: (lines, { anyway } = { anyway: false }) => batches.run(lines, anyway),
    follow: async (onEvents, onBreak, signal) => {
      batches.makeReady();
      while (!signal.aborted) {
        const why = await followOnce(onEvents, signal);
        if (signal.aborted) break;
        onBreak(why);
        await delay(IPSEC_LIMITS.followAgainMs, undefined, { signal }).catch(() => undefined);
      }
      batches.close();
    },
    setEventPace: async (packets, tenths) => {
      await writeFile("/proc/sys/net/core/xfrm_aevent_rseqth", `${packets}\n`);
      await writeFile("/proc/sys/net/core/xfrm_aevent_etime", `${tenths}\n`);
    },
    setPaceOf: async (sas, pace) => {
      const known = sas.filter(({ destination }) => isIPv4(destination));
      for (let at = 0; at < known.length; at += PACED_AT_ONCE)
        await send(eventPaceMessages(known.slice(at, at + PACED_AT_ONCE), pace));
    },
  };
}

function send(messages: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn("socat", SENDING, { stdio: ["pipe", "ignore", "ignore"], timeout: IPSEC_LIMITS.batchTimeoutMs });
    child.stdin.on("error", () => undefined);
    child.once("error", (error) => reject(new ForeshiftError("COMMAND_FAILED", { field: "socat", detail: error.message })));
    child.once("close", (status) => {
      if (status === 0) resolve();
      else reject(new ForeshiftError("COMMAND_FAILED", { field: "socat", detail: `exit status ${status}` }));
    });
    child.stdin.end(messages);
  });
}

/** Answers why it ended. */
function followOnce(onEvents: (events: readonly XfrmEvent[]) => void, signal: AbortSignal): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn("socat", EVENTS, { stdio: ["ignore", "pipe", "ignore"] });
    const reader = new XfrmEventReader();
    const end = () => child.kill("SIGKILL");
    signal.addEventListener("abort", end, { once: true });
    let why = "socat ended";
    child.stdout.on("data", (bytes: Buffer) => {
      try {
        onEvents(reader.read(bytes));
      } catch (thrown) {
        why = thrown instanceof Error ? thrown.message : "its bytes were no messages";
        end();
      }
    });
    child.once("error", (error) => {
      signal.removeEventListener("abort", end);
      resolve(error.message);
    });
    child.once("close", () => {
      signal.removeEventListener("abort", end);
      resolve(why);
    });
  });
}

/** An `ip` that waits for its lines: a takeover does not wait for a program to start. */
class Batches {
  #ready: { readonly child: ChildProcessWithoutNullStreams; errors: string } | undefined;
  #closed = false;

  makeReady(): void {
    if (this.#closed || this.#ready !== undefined) return;
    const child = spawn("ip", ["-batch", "-"], { stdio: "pipe" });
    const ready = { child, errors: "" };
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      ready.errors = (ready.errors + text).slice(-ERROR_CHARS_MAX);
    });
    child.stdout.resume();
    // One that ends without reading breaks the pipe; its exit status tells the rest.
    child.stdin.on("error", () => undefined);
    const gone = () => {
      if (this.#ready === ready) this.#ready = undefined;
    };
    child.once("error", gone);
    child.once("close", gone);
    this.#ready = ready;
  }

  async run(lines: readonly string[], anyway: boolean): Promise<void> {
    if (lines.length === 0) return;
    if (lines.some((line) => /[\r\n]/.test(line))) throw failed("a line that is more than one");
    const input = `${lines.join("\n")}\n`;
    if (anyway) return await this.#feed(spawnedAnyway(), input).catch(() => undefined);
    this.makeReady();
    const ready = this.#ready;
    this.#ready = undefined;
    if (ready === undefined) throw failed("it cannot be started");
    try {
      await this.#feed(ready, input);
    } finally {
      this.makeReady();
    }
  }

  close(): void {
    this.#closed = true;
    this.#ready?.child.kill("SIGKILL");
    this.#ready = undefined;
  }

  #feed(to: { readonly child: ChildProcessWithoutNullStreams; errors: string }, input: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const { child } = to;
      const late = setTimeout(() => child.kill("SIGKILL"), IPSEC_LIMITS.batchTimeoutMs);
      child.once("error", (error) => {
        clearTimeout(late);
        reject(failed(error.message));
      });
      child.once("close", (status, signal) => {
        clearTimeout(late);
        if (status === 0) return resolve();
        const line = FAILED_LINE.exec(to.errors)?.[1];
        const words = KERNEL_WORDS.exec(to.errors)?.[0] ?? "it did not take it";
        reject(failed(signal === null ? `line ${line ?? "?"}: ${words}` : `ended by ${signal}`));
      });
      child.stdin.end(input);
    });
  }
}

function spawnedAnyway(): { readonly child: ChildProcessWithoutNullStreams; errors: string } {
  const child = spawn("ip", ["-force", "-batch", "-"], { stdio: "pipe" });
  child.stderr.resume();
  child.stdout.resume();
  child.stdin.on("error", () => undefined);
  return { child, errors: "" };
}

function failed(detail: string): ForeshiftError {
  return new ForeshiftError("COMMAND_FAILED", { field: "ip -batch", detail });
}
