/**
 * What EC2 tells an instance of itself, and nobody else as soon: that its Spot capacity is taken back in two minutes, or is likely to be.
 */
import { z } from "zod";
import { InstanceMetadata, MetadataUrl } from "../../drivers/aws/instance-metadata.ts";
import { CLOUD_LIMITS } from "../../models/limits-cloud.ts";

export const CloudConfig = z.strictObject({
  kind: z.literal("ec2"),
  metadataUrl: MetadataUrl,
});
export type CloudConfig = z.infer<typeof CloudConfig>;

const NOTICES = {
  interruptionNotice: "meta-data/spot/instance-action",
  rebalanceNotice: "meta-data/events/recommendations/rebalance",
} as const;

export class InstanceNotices {
  readonly #metadata: InstanceMetadata;
  readonly #timer: NodeJS.Timeout;
  #gauges: Readonly<Record<string, number>> = {};

  constructor({ metadataUrl }: CloudConfig, timeoutMs: number = CLOUD_LIMITS.metadataTimeoutMs) {
    this.#metadata = new InstanceMetadata(metadataUrl, timeoutMs);
    this.#timer = setInterval(() => void this.look(), CLOUD_LIMITS.metadataIntervalMs);
    void this.look();
  }

  /** 1 where there is such a notice, 0 where there is none; nothing while the service does not answer. */
  gauges(): Readonly<Record<string, number>> {
    return this.#gauges;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#metadata.close();
  }

  async look(): Promise<void> {
    try {
      const found = await Promise.all(
        Object.entries(NOTICES).map(async ([name, path]) => {
          const notice = await this.#metadata.find(path);
          return [name, notice === undefined ? 0 : 1] as const;
        }),
      );
      this.#gauges = Object.fromEntries(found);
    } catch {
      this.#gauges = {};
    }
  }
}
