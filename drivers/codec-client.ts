/**
 * Asks the codec server to let a person in: for an address that is good once, so that it may be shown and clicked.
 */
import { readFile } from "node:fs/promises";
import { request } from "undici";
import { z } from "zod";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";
import { parseInput } from "../models/parse.ts";

export interface CodecAccess {
  /** `http(s)://host:port`. */
  readonly address: string;
  /** File that holds the operator's token. */
  readonly tokenFile: string;
}

const TicketAnswer = z.object({ address: z.url() });

/** UNREACHABLE when it does not answer, UNAUTHORISED when the token is not one of its own. */
export async function signInAddress({ address, tokenFile }: CodecAccess): Promise<string> {
  const answer = await ask(address, await tokenIn(tokenFile));
  if (answer.status >= 400) throw ForeshiftError.fromBody(answer.body);
  return parseInput(TicketAnswer, answer.body, "answer of the codec server").address;
}

async function ask(address: string, token: string): Promise<{ status: number; body: unknown }> {
  try {
    const answer = await request(`${address}/tickets`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(LIMITS.http.requestTimeoutMs),
    });
    return { status: answer.statusCode, body: await answer.body.json() };
  } catch (thrown) {
    throw new ForeshiftError("UNREACHABLE", { field: "the codec server", value: address, detail: messageOf(thrown) });
  }
}

async function tokenIn(file: string): Promise<string> {
  try {
    return (await readFile(file, "utf8")).trim();
  } catch (thrown) {
    const detail = `its token cannot be read: ${messageOf(thrown)}`;
    throw new ForeshiftError("UNAUTHORISED", { field: "the codec server", detail });
  }
}
