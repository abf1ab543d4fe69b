/**
 * The command that starts the lab's process in its own namespaces, so that ending it ends everything the lab made.
 */
import { fileURLToPath } from "node:url";
import { LAB_UP } from "./namespace.ts";

const DAEMON = fileURLToPath(new URL("./daemon.ts", import.meta.url));

/**
 * The first process of a PID namespace inherits orphans; a shell reaps them (Node would not). Its end, however it comes, is the
 * end of all others.
 */
const INIT = '"$@" & child=$!; trap "kill -TERM $child" TERM INT; wait $child; wait $child';

/**
 * The same for a program whose machines go on without it: ended by anything but an order, it is begun anew, and finds them. One that
 * fails before it serves ends everything, so that it is begun from nothing.
 */
const KEEPING_INIT = `trap 'ordered=1; kill -TERM $child' TERM INT
while :; do
  "$@" & child=$!
  wait $child; code=$?
  while kill -0 $child 2> /dev/null; do wait $child; code=$?; done
  [ -z "\${ordered-}" ] && [ -e ${LAB_UP} ] || exit $code
done`;

/**
 * The program and its arguments; `uid` is that of the person. End it with SIGKILL: the kernel ends all processes and namespaces
 * of the lab with it. It also ends with the process that starts it: the death signal is set after the user namespace is
 * entered, because gaining capabilities clears it.
 */
export function labCommand(options: LabCommandOptions): readonly [string, ...string[]] {
  const { node, configFile, uid, goesOn = false } = options;
  // A session of its own, because kernels share the CPU out among sessions.
  return enclosed(["setsid", node, DAEMON, configFile], uid, goesOn ? KEEPING_INIT : INIT);
}

export interface LabCommandOptions {
  readonly node: string;
  readonly configFile: string;
  readonly uid: number;
  /** Its machines outlive its process, which is begun anew then: they are virtual. */
  readonly goesOn?: boolean;
}

/** Any program in namespaces like the lab's. */
export function enclosed(program: readonly string[], uid: number, init = INIT): readonly [string, ...string[]] {
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
  const [first, ...rest] = [...become, ...dieWithParent, ...isolate, "sh", "-c", init, "init", ...program];
  return [first ?? "unshare", ...rest];
}
