/**
 * The keywords by which runs are found in the Web UI. A workflow that sets one which the server does not know cannot go on, so they are
 * registered before the workers start, where the server allows it.
 */
import { NativeConnection, type NativeConnectionOptions } from "@temporalio/worker";
import type { Logger } from "pino";
import { messageOf } from "../../models/errors.ts";

const NAMES = ["ForeshiftSwarm", "ForeshiftEndpoint", "ForeshiftPhase", "ForeshiftCause"] as const;
/** `INDEXED_VALUE_TYPE_KEYWORD` of Temporal's API. */
const KEYWORD = 2;

export async function registerSearchAttributes(
  options: NativeConnectionOptions,
  namespace: string,
  log: Logger,
): Promise<void> {
  const connection = await NativeConnection.connect(options);
  try {
    const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
    const missing = NAMES.filter((name) => customAttributes?.[name] === undefined);
    if (missing.length === 0) return;
    const searchAttributes = Object.fromEntries(missing.map((name) => [name, KEYWORD]));
    await connection.operatorService.addSearchAttributes({ namespace, searchAttributes });
    log.info({ event: "search-attributes-registered", names: missing });
  } catch (thrown) {
    // Temporal Cloud lets only its own tools register them; there they are a step of the installation.
    log.warn({ event: "search-attributes-not-registered", detail: messageOf(thrown) });
  } finally {
    await connection.close();
  }
}
