/** Payloads as Temporal's codec servers exchange them: JSON, bytes in base64. */
import type { Payload } from "@temporalio/common";
import { z } from "zod";
import { REFUSED_ENCODING } from "../../drivers/temporal-codec/codec.ts";
import { CODEC_LIMITS } from "../../models/limits-codec.ts";

const Bytes = z.base64().transform((text): Uint8Array => Buffer.from(text, "base64"));

export const PayloadsBody = z.object({
  payloads: z
    .array(z.object({ metadata: z.record(z.string(), Bytes).nullish(), data: Bytes.nullish() }))
    .max(CODEC_LIMITS.payloadsPerRequestMax),
});

/** A payload that was refused is shown as the words that say why. */
export function toJson(payload: Payload): { metadata: Record<string, string>; data: string } {
  const { metadata, data } = isRefused(payload) ? asText(payload) : payload;
  const written = Object.entries(metadata ?? {}).map(([name, value]) => [name, Buffer.from(value).toString("base64")]);
  return { metadata: Object.fromEntries(written), data: Buffer.from(data ?? []).toString("base64") };
}

function isRefused({ metadata }: Payload): boolean {
  return Buffer.from(metadata?.["encoding"] ?? []).toString() === REFUSED_ENCODING;
}

function asText({ data }: Payload): Payload {
  const text = JSON.stringify(Buffer.from(data ?? []).toString());
  return { metadata: { encoding: Buffer.from("json/plain") }, data: Buffer.from(text) };
}
