/**
 * A virtual machine that runs out of memory: files in its memory grow at a steady rate. When none is left, its own kernel kills what it
 * finds, as it would anywhere.
 */
import type { BuildUpOptions, FaultAtWork } from "./course.ts";

const FOLDER = "/run/leak";

export class GuestMemoryLeak implements FaultAtWork {
  readonly begun: Promise<void>;
  readonly #options: BuildUpOptions;

  constructor(options: BuildUpOptions) {
    this.#options = options;
    this.begun = options.runInside(leakScript(options.buildUpMs));
  }

  /** A machine without memory may not answer; it is without it until it ends, then. */
  async stop(): Promise<void> {
    await this.#options.runInside(`umount -l ${FOLDER} && rmdir ${FOLDER}`).catch(this.#options.onFailure);
  }
}

/** Progress follows the machine's own uptime, in hundredths of a second, because an emulated processor is late with everything. */
function leakScript(buildUpMs: number): string {
  return `
mkdir -p ${FOLDER}
mount -t tmpfs -o size=100% tmpfs ${FOLDER}
now() { read up _ < /proc/uptime; echo "\${up%.*}\${up#*.}"; }
free=$(sed -n 's/^MemAvailable: *\\([0-9]*\\) kB$/\\1/p' /proc/meminfo)
(
  begun=$(now); held=0; piece=0
  while [ -d ${FOLDER} ] && [ "$held" -lt "$free" ]; do
    wanted=$((free * ($(now) - begun) / ${Math.ceil(buildUpMs / 10)}))
    [ "$wanted" -le "$free" ] || wanted=$free
    if [ "$wanted" -gt "$held" ]; then
      head -c $(((wanted - held) * 1024)) /dev/zero > ${FOLDER}/$piece || exit
      held=$wanted; piece=$((piece + 1))
    fi
    sleep 0.2
  done
) < /dev/null > /dev/null 2>&1 &`;
}
