/**
 * Failures with their message and stack inside a payload, so that these are sealed too. Loaded by workflows' sandbox as well, so it
 * imports nothing else.
 */
import { DefaultFailureConverter, type PayloadConverter, type ProtoFailure } from "@temporalio/common";

type Context = Parameters<DefaultFailureConverter["failureToError"]>[2];

/**
 * A cancellation is read without its details: nothing of ours is in them, and of a step that was cancelled before anybody had begun it the
 * server itself writes them, unsealed. A run that read these would fail for ever.
 */
class SealedFailureConverter extends DefaultFailureConverter {
  override failureToErrorInner(failure: ProtoFailure, payloadConverter: PayloadConverter, context?: Context): Error {
    const read = failure.canceledFailureInfo ? { ...failure, canceledFailureInfo: {} } : failure;
    return super.failureToErrorInner(read, payloadConverter, context);
  }
}

export const failureConverter = new SealedFailureConverter({ encodeCommonAttributes: true });
