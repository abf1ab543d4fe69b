/**
 * The command that starts the lab's process in its own namespaces, so that ending it ends everything the lab made.
 */
import { fileURLToPath } from "node:url";

const DAEMON = fileURLToPath(new URL("./daemon.ts", import.meta.url));

/**
 * The first process of a PID namespace inherits orphans; a shell reaps them (Node would not). Its end, however it comes, is the
 * end of all others.
 */
const INIT = '"$@" & child=$!; trap "kill -TERM $child" TERM INT; wait $child; wait $child';

/**
 * The program and its arguments; `uid` is that of the person. End it with SIGKILL: the kernel ends all processes and namespaces
 * of the lab with it. It also ends with the process that starts it: the death signal is set after the user namespace is
 * entered, because gaining capabilities clears it.
 */
export function labCommand(options: { node: string; configFile: string; uid: number }): readonly [string, ...string[]] {
  // A session of its own, because kernels share the CPU out among sessions.
  return enclosed(["setsid", options.node, DAEMON, options.configFile], options.uid);
}

/** Any program in namespaces like the lab's. */
export function enclosed(program: readonly string[], uid: number): readonly [string, ...string[]] {
  const become = uid === 0 ? [] : ["unshare", "--user", "--map-root-user", "--"];
  const dieWithParent = ["setpriv", "--pdeathsig", "KILL", "--"];
  const isolate = [
    "unshare",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child=KILL",
    "--mount-proc",
    "--propagation",
    "private",
    "--",
  ];
  const [first, ...rest] = [...become, ...dieWithParent, ...isolate, "sh", "-c", INIT, "init", ...program];
  return [first ?? "unshare", ...rest];
}
