/** The Temporal development server with its Web UI, persisted to a file; or the cluster `TEMPORAL_ADDRESS` names. */
import { join } from "node:path";
import { Connection } from "@temporalio/client";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { findTemporal } from "./find.ts";
import { SETUP_LIMITS } from "./limits.ts";
import { LOOPBACK, onChosenPorts } from "./ports.ts";
import { asService, externalService, type Service, type ServiceOptions, startChild } from "./service.ts";
import { temporalSecurity } from "./temporal-security.ts";

/** Keywords by which people find runs in the Web UI. */
const SEARCH_ATTRIBUTES = ["ForeshiftSwarm", "ForeshiftEndpoint", "ForeshiftPhase", "ForeshiftCause"] as const;
/** `INDEXED_VALUE_TYPE_KEYWORD` of Temporal's API. */
const KEYWORD = 2;
const CODE_ALREADY_EXISTS = 6;

export interface TemporalOptions extends ServiceOptions {
  /** Passed on as `--dynamic-config-value KEY=JSON`. */
  readonly dynamicConfig?: Readonly<Record<string, string | number | boolean>>;
  /** Where the Web UI has payloads opened; a server of one's own is told by its own configuration. */
  readonly codecEndpoint?: string;
}

export interface TemporalService extends Service {
  readonly namespace: string;
  /** Undefined for an external cluster, whose UI we do not know. */
  readonly uiUrl: string | undefined;
}

export async function startTemporal(options: TemporalOptions): Promise<TemporalService> {
  const external = process.env.TEMPORAL_ADDRESS;
  if (external !== undefined && external !== "") return useExternal(external);
  const { source, where } = await findTemporal();
  if (source === "missing") throw new ForeshiftError("MISSING_TOOL", { value: "temporal", detail: where });
  return await onChosenPorts(options.home, ["temporal", "temporal-ui"], (ports) =>
    startServer(options, where, ports.temporal, ports["temporal-ui"]),
  );
}

async function startServer(options: TemporalOptions, command: string, port: number, uiPort: number): Promise<TemporalService> {
  const address = `${LOOPBACK}:${port}`;
  const dynamic = Object.entries(options.dynamicConfig ?? {}).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  const child = await startChild(options, {
    name: "temporal",
    command,
    args: [
      "server",
      "start-dev",
      `--ip=${LOOPBACK}`,
      `--port=${port}`,
      `--ui-port=${uiPort}`,
      `--db-filename=${join(options.home, "temporal.db")}`,
      "--log-level=error",
      "--ui-disable-news-fetch",
      ...(options.codecEndpoint === undefined ? [] : [`--ui-codec-endpoint=${options.codecEndpoint}`]),
      ...SEARCH_ATTRIBUTES.flatMap((name) => ["--search-attribute", `${name}=Keyword`]),
      ...dynamic.flatMap((entry) => ["--dynamic-config-value", entry]),
    ],
    stopSignal: "SIGTERM",
    orphanSignal: "KILL",
    ports: [port, uiPort],
    isReady: () => serves(address),
  });
  const uiUrl = `http://${LOOPBACK}:${uiPort}`;
  return Object.assign(asService("temporal", address, child), { namespace: "default", uiUrl });
}

async function serves(address: string): Promise<boolean> {
  const connection = await Connection.connect({ address, connectTimeout: SETUP_LIMITS.requestTimeoutMs });
  try {
    const names = await searchAttributesOf(connection, "default");
    return SEARCH_ATTRIBUTES.every((name) => names.has(name));
  } finally {
    await connection.close();
  }
}

async function searchAttributesOf(connection: Connection, namespace: string): Promise<Set<string>> {
  const deadline = Date.now() + SETUP_LIMITS.requestTimeoutMs;
  return connection.withDeadline(deadline, async () => {
    const answer = await connection.operatorService.listSearchAttributes({ namespace });
    return new Set(Object.keys(answer.customAttributes));
  });
}

/** UNREACHABLE, UNAUTHORISED, or NOT_READY when it lacks our search attributes and we may not add them. */
async function useExternal(address: string): Promise<TemporalService> {
  const namespace = process.env.TEMPORAL_NAMESPACE ?? "default";
  let connection: Connection;
  try {
    connection = await Connection.connect({
      address,
      connectTimeout: SETUP_LIMITS.externalTimeoutMs,
      ...(await temporalSecurity()),
    });
  } catch (thrown) {
    throw refusal(address, thrown);
  }
  try {
    await completeSearchAttributes(connection, namespace);
  } catch (thrown) {
    throw refusal(address, thrown);
  } finally {
    await connection.close();
  }
  return Object.assign(externalService("temporal", address), { namespace, uiUrl: undefined });
}

async function completeSearchAttributes(connection: Connection, namespace: string): Promise<void> {
  const there = await searchAttributesOf(connection, namespace);
  const missing = SEARCH_ATTRIBUTES.filter((name) => !there.has(name));
  if (missing.length === 0) return;
  const searchAttributes = Object.fromEntries(missing.map((name) => [name, KEYWORD]));
  try {
    await connection.operatorService.addSearchAttributes({ namespace, searchAttributes });
  } catch (thrown) {
    if ((thrown as { code?: number }).code === CODE_ALREADY_EXISTS) return;
    throw new ForeshiftError("NOT_READY", {
      value: "Temporal",
      detail: `create the search attributes ${missing.join(", ")} (Keyword) in namespace ${namespace}: ${messageOf(thrown)}`,
    });
  }
}

function refusal(address: string, thrown: unknown): ForeshiftError {
  if (thrown instanceof ForeshiftError) return thrown;
  const detail = messageOf(thrown).split("\n", 1)[0] ?? "";
  const refused = /PERMISSION_DENIED|UNAUTHENTICATED/i.test(detail);
  if (refused) return new ForeshiftError("UNAUTHORISED", { field: `Temporal at ${address}`, detail });
  return new ForeshiftError("UNREACHABLE", { field: "Temporal", value: address, detail });
}
