/**
 * Failures with their message and stack inside a payload, so that these are sealed too. Loaded by workflows' sandbox as well, so it
 * imports nothing else.
 */
import { DefaultFailureConverter } from "@temporalio/common";

export const failureConverter = new DefaultFailureConverter({ encodeCommonAttributes: true });
