/** What a benchmark began is ended before a person's Ctrl-C ends the benchmark. */
import { constants } from "node:os";

const SIGNALS = ["SIGINT", "SIGTERM"] as const;
const EXIT_CODE_SIGNAL = 128;

/** Closes once the work is over, however it ends. A signal in the midst closes as well, and then ends the process. */
export async function interruptible<T>(work: () => Promise<T>, close: () => Promise<void>): Promise<T> {
  let isInterrupted = false;
  const interrupted = (signal: (typeof SIGNALS)[number]) => {
    if (!isInterrupted) console.error("  interrupted; ending what was begun");
    isInterrupted = true;
    void close().finally(() => process.exit(EXIT_CODE_SIGNAL + constants.signals[signal]));
  };
  // Ctrl-C comes more than once: from the terminal, and from whoever started this process.
  for (const signal of SIGNALS) process.on(signal, interrupted);
  try {
    return await work();
  } finally {
    await close();
    // What fails because it was taken away is no news.
    if (isInterrupted) await forever();
    for (const signal of SIGNALS) process.off(signal, interrupted);
  }
}

/** For who asks for anything while the process is about to exit. */
export function forever(): Promise<never> {
  return new Promise(() => undefined);
}
