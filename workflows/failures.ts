/**
 * Coded errors of models/errors.ts as Temporal carries them.
 */
import { ApplicationFailure, rootCause } from "@temporalio/workflow";
import { type ErrorCode, ForeshiftError, messageOf } from "../models/errors.ts";

export function failure(error: ForeshiftError): ApplicationFailure {
  return ApplicationFailure.create({
    type: error.code,
    message: error.message,
    nonRetryable: !error.retryable,
    details: [error.toBody()],
  });
}

/** Runs a check of models/, which throw ForeshiftError: a workflow that let that through would retry its task for ever. */
export function checked<T>(check: () => T): T {
  try {
    return check();
  } catch (thrown) {
    throw failure(thrown instanceof ForeshiftError ? thrown : new ForeshiftError("INTERNAL", { detail: messageOf(thrown) }));
  }
}

/** The code that a failed activity carries. */
export function codeOf(thrown: unknown): ErrorCode | undefined {
  let cause: unknown = thrown;
  while (cause instanceof Error) {
    if (cause instanceof ApplicationFailure && typeof cause.type === "string") return cause.type as ErrorCode;
    cause = cause.cause;
  }
  return undefined;
}

export function reasonOf(thrown: unknown): string {
  return rootCause(thrown) ?? String(thrown);
}
