/**
 * A run's history for people: each payload in it replaced by the value it holds, or by why it is refused.
 */
import { defaultPayloadConverter, type Payload } from "@temporalio/common";
import { historyToJSON } from "@temporalio/common/lib/proto-utils.js";
import { z } from "zod";
import { messageOf } from "../../models/errors.ts";
import { type Codec, REFUSED_ENCODING } from "./codec.ts";
import { isSealed } from "./envelope.ts";

/** As Temporal's JSON has it, payloads opened. */
export interface HistoryEvent {
  readonly eventId: string;
  /** RFC 3339. */
  readonly eventTime: string;
  readonly eventType: string;
  readonly [attributes: string]: unknown;
}

const History = z.object({
  events: z.array(z.looseObject({ eventId: z.string(), eventTime: z.string(), eventType: z.string() })).default([]),
});
const PayloadJson = z.strictObject({ metadata: z.record(z.string(), z.base64()), data: z.base64().default("") });
type PayloadJson = z.infer<typeof PayloadJson>;

/**
 * Never sealed: the server indexes search attributes, markers are the SDK's own (the names of patches), and of a step that was cancelled
 * before anybody had begun it the server itself says so.
 */
const OPEN = new Set(["searchAttributes", "markerRecordedEventAttributes", "activityTaskCanceledEventAttributes"]);

/** Without a codec payloads are read as they are. NOT_READY when a key cannot be had. */
export async function readableEvents(
  history: Parameters<typeof historyToJSON>[0],
  codec: Codec | undefined,
): Promise<readonly HistoryEvent[]> {
  const { events } = History.parse(JSON.parse(historyToJSON(history)));
  return (await Promise.all(events.map((event) => opened(event, codec)))) as HistoryEvent[];
}

async function opened(value: unknown, codec: Codec | undefined): Promise<unknown> {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return await Promise.all(value.map((part) => opened(part, codec)));
  const payload = PayloadJson.safeParse(value);
  if (payload.success) return await valueOf(payload.data, codec);
  const codecOf = (name: string) => (OPEN.has(name) ? whereSealed(codec) : codec);
  const parts = Object.entries(value).map(async ([name, part]) => [name, await opened(part, codecOf(name))] as const);
  return Object.fromEntries(await Promise.all(parts));
}

function whereSealed(codec: Codec | undefined): Codec | undefined {
  if (codec === undefined) return undefined;
  const each = async (payload: Payload) => (isSealed(payload) ? await codec.decode([payload]) : [payload]);
  return { ...codec, decode: async (payloads) => (await Promise.all(payloads.map(each))).flat() };
}

async function valueOf(json: PayloadJson, codec: Codec | undefined): Promise<unknown> {
  const metadata = Object.fromEntries(Object.entries(json.metadata).map(([name, text]) => [name, Buffer.from(text, "base64")]));
  const written: Payload = { metadata, data: Buffer.from(json.data, "base64") };
  const [payload = written] = codec === undefined ? [written] : await codec.decode([written]);
  if (Buffer.from(payload.metadata?.["encoding"] ?? []).toString() === REFUSED_ENCODING) {
    return { refused: Buffer.from(payload.data ?? []).toString() };
  }
  try {
    return defaultPayloadConverter.fromPayload(payload);
  } catch (thrown) {
    return { refused: messageOf(thrown) };
  }
}
