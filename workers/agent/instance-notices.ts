/**
 * What EC2 tells an instance of itself, and nobody else as soon: that its Spot capacity is taken back in two minutes, or is likely to be.
 * Asked of the instance's metadata service with a session token (IMDSv2).
 */
import { z } from "zod";
import { CLOUD_LIMITS } from "../../models/limits-cloud.ts";

const { metadataIntervalMs, metadataTimeoutMs, metadataTokenS } = CLOUD_LIMITS;

export const CloudConfig = z.strictObject({
  kind: z.literal("ec2"),
  metadataUrl: z.url({ protocol: /^http$/ }).default("http://169.254.169.254"),
});
export type CloudConfig = z.infer<typeof CloudConfig>;

const NOTICES = {
  interruptionNotice: "/latest/meta-data/spot/instance-action",
  rebalanceNotice: "/latest/meta-data/events/recommendations/rebalance",
} as const;
const TOKEN = "/latest/api/token";
const [OK, UNAUTHORISED, NOT_FOUND] = [200, 401, 404];

export class InstanceNotices {
  readonly #url: string;
  readonly #timeoutMs: number;
  readonly #timer: NodeJS.Timeout;
  readonly #stopping = new AbortController();
  #token: string | undefined;
  #gauges: Readonly<Record<string, number>> = {};

  constructor({ metadataUrl }: CloudConfig, timeoutMs: number = metadataTimeoutMs) {
    this.#url = metadataUrl;
    this.#timeoutMs = timeoutMs;
    this.#timer = setInterval(() => void this.look(), metadataIntervalMs);
    void this.look();
  }

  /** 1 where there is such a notice, 0 where there is none; nothing while the service does not answer. */
  gauges(): Readonly<Record<string, number>> {
    return this.#gauges;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#stopping.abort();
  }

  async look(): Promise<void> {
    try {
      const found = await Promise.all(
        Object.entries(NOTICES).map(async ([name, path]) => [name, await this.#isThere(path)] as const),
      );
      this.#gauges = Object.fromEntries(found);
    } catch {
      this.#gauges = {};
    }
  }

  async #isThere(path: string): Promise<number> {
    for (const isLast of [false, true]) {
      this.#token ??= await this.#newToken();
      const { status } = await this.#ask(path, { headers: { "x-aws-ec2-metadata-token": this.#token } });
      if (status === OK) return 1;
      if (status === NOT_FOUND) return 0;
      if (status !== UNAUTHORISED || isLast) break;
      this.#token = undefined;
    }
    throw new Error("the metadata service gives no answer");
  }

  async #newToken(): Promise<string> {
    const headers = { "x-aws-ec2-metadata-token-ttl-seconds": String(metadataTokenS) };
    const { status, text } = await this.#ask(TOKEN, { method: "PUT", headers });
    if (status !== OK) throw new Error(`the metadata service answers ${status}`);
    return text;
  }

  async #ask(path: string, init: RequestInit): Promise<{ status: number; text: string }> {
    const signal = AbortSignal.any([AbortSignal.timeout(this.#timeoutMs), this.#stopping.signal]);
    const answer = await fetch(new URL(path, this.#url), { ...init, signal });
    return { status: answer.status, text: await answer.text() };
  }
}
