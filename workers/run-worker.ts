/**
 * The frame of every worker process: one log to standard error, an orderly end on SIGTERM and SIGINT, one line when it cannot start.
 */
import { type Logger, pino } from "pino";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { keepMemoryPrivate } from "./keep-private.ts";

/** `start` answers what ends the worker. */
export async function runWorker(name: string, start: (log: Logger) => Promise<() => Promise<void>>): Promise<void> {
  const log = pino({ name, level: process.env.FORESHIFT_DEBUG === "1" ? "debug" : "info" }, pino.destination(2));
  const exposed = keepMemoryPrivate();
  if (exposed !== undefined) log.warn({ event: "core-dumps-possible", detail: exposed });
  try {
    const stop = await start(log);
    log.info({ event: "started", pid: process.pid });
    let stopping = false;
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.on(signal, () => {
        if (stopping) return;
        stopping = true;
        log.info({ event: "stopping", signal });
        stop().then(
          () => process.exit(0),
          (thrown: unknown) => {
            log.error({ event: "stop-failed", detail: messageOf(thrown) });
            process.exit(1);
          },
        );
      });
    }
  } catch (thrown) {
    endUnstarted(log, thrown);
  }
}

/** One line that says why, and the exit code that goes with it. */
export function endUnstarted(log: Logger, thrown: unknown): never {
  const error =
    thrown instanceof ForeshiftError
      ? thrown
      : new ForeshiftError("INTERNAL", { detail: messageOf(thrown) }, { cause: thrown });
  log.fatal({ event: "not-started", code: error.code, detail: error.message, remedy: error.remedy });
  process.exit(error.exitCode);
}
