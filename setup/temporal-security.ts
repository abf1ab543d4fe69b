/** TLS and API key for a Temporal of one's own, by the variables that Temporal's own tools read. */
import { readFile } from "node:fs/promises";
import type { ConnectionOptions } from "@temporalio/client";
import { ForeshiftError, fileTrouble } from "../models/errors.ts";

/** Nothing where none of them is set. INVALID_FIELD for a file that cannot be read, and for half of a client's certificate. */
export async function temporalSecurity(
  env: NodeJS.ProcessEnv = process.env,
): Promise<Pick<ConnectionOptions, "tls" | "apiKey">> {
  const { TEMPORAL_API_KEY: apiKey = "", TEMPORAL_TLS, TEMPORAL_TLS_CA, TEMPORAL_TLS_CERT, TEMPORAL_TLS_KEY } = env;
  if ((TEMPORAL_TLS_CERT === undefined) !== (TEMPORAL_TLS_KEY === undefined)) {
    const field = TEMPORAL_TLS_CERT === undefined ? "TEMPORAL_TLS_CERT" : "TEMPORAL_TLS_KEY";
    throw invalid(field, "nothing", "a client's certificate goes with its key: set both or neither");
  }
  const [ca, crt, key] = await Promise.all([
    read("TEMPORAL_TLS_CA", TEMPORAL_TLS_CA),
    read("TEMPORAL_TLS_CERT", TEMPORAL_TLS_CERT),
    read("TEMPORAL_TLS_KEY", TEMPORAL_TLS_KEY),
  ]);
  const tls = {
    ...(ca === undefined ? {} : { serverRootCACertificate: ca }),
    ...(crt === undefined || key === undefined ? {} : { clientCertPair: { crt, key } }),
  };
  if (apiKey !== "") return { apiKey, tls };
  return TEMPORAL_TLS === "true" || Object.keys(tls).length > 0 ? { tls } : {};
}

async function read(field: string, file: string | undefined): Promise<Buffer | undefined> {
  if (file === undefined) return undefined;
  try {
    return await readFile(file);
  } catch (thrown) {
    throw invalid(field, file, fileTrouble(thrown));
  }
}

function invalid(field: string, value: string, detail: string): ForeshiftError {
  return new ForeshiftError("INVALID_FIELD", { field, value, detail });
}
