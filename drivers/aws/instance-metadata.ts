/**
 * EC2's metadata service, which tells an instance of itself. Asked with a session token (IMDSv2): a request that somebody tricks a
 * process into making has none.
 */
import { z } from "zod";
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { CLOUD_LIMITS } from "../../models/limits-cloud.ts";

export const METADATA_URL = "http://169.254.169.254";
export const MetadataUrl = z.url({ protocol: /^http$/ }).default(METADATA_URL);

const TOKEN = "/latest/api/token";
const [OK, UNAUTHORISED, NOT_FOUND] = [200, 401, 404];

export class InstanceMetadata {
  readonly #url: string;
  readonly #timeoutMs: number;
  readonly #stopping = new AbortController();
  #token: string | undefined;

  constructor(url: string, timeoutMs: number = CLOUD_LIMITS.metadataTimeoutMs) {
    this.#url = url;
    this.#timeoutMs = timeoutMs;
  }

  /** Text below `/latest/`; undefined where there is nothing of that name. UNREACHABLE when the service gives no answer. */
  async find(path: string): Promise<string | undefined> {
    for (const isLast of [false, true]) {
      this.#token ??= await this.#newToken();
      const { status, text } = await this.#ask(`/latest/${path}`, { headers: { "x-aws-ec2-metadata-token": this.#token } });
      if (status === OK) return text;
      if (status === NOT_FOUND) return undefined;
      if (status !== UNAUTHORISED || isLast) throw this.#failed(`it answers ${status} for ${path}`);
      this.#token = undefined;
    }
    throw this.#failed(`it gives no answer for ${path}`);
  }

  /** The same; NOT_READY where there is nothing of that name. */
  async read(path: string, remedy: string): Promise<string> {
    const found = await this.find(path);
    if (found !== undefined && found !== "") return found;
    throw new ForeshiftError("NOT_READY", { value: `the metadata service's ${path}`, detail: `there is nothing: ${remedy}` });
  }

  /** Whoever waits for an answer gets UNREACHABLE. */
  close(): void {
    this.#stopping.abort();
  }

  async #newToken(): Promise<string> {
    const headers = { "x-aws-ec2-metadata-token-ttl-seconds": String(CLOUD_LIMITS.metadataTokenS) };
    const { status, text } = await this.#ask(TOKEN, { method: "PUT", headers });
    if (status !== OK) throw this.#failed(`it answers ${status} for a token`);
    return text;
  }

  async #ask(path: string, init: RequestInit): Promise<{ status: number; text: string }> {
    const signal = AbortSignal.any([AbortSignal.timeout(this.#timeoutMs), this.#stopping.signal]);
    try {
      const answer = await fetch(new URL(path, this.#url), { ...init, signal });
      return { status: answer.status, text: await answer.text() };
    } catch (thrown) {
      const cause = thrown instanceof Error && thrown.cause !== undefined ? thrown.cause : thrown;
      throw this.#failed(messageOf(cause));
    }
  }

  #failed(detail: string): ForeshiftError {
    return new ForeshiftError("UNREACHABLE", { field: "metadata service", value: this.#url, detail });
  }
}
