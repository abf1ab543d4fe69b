/**
 * Temporal's payload codec: what workflows and activities say to each other is sealed before it leaves the process, and opened after it
 * came. Sealing can be left out only by saying so.
 */
import { fileURLToPath } from "node:url";
import type { DataConverter, Payload, SerializationContext } from "@temporalio/common";
import { ForeshiftError } from "../../models/errors.ts";
import { CODEC_LIMITS } from "../../models/limits-codec.ts";
import { parseInput } from "../../models/parse.ts";
import { openDataKeyRegistry } from "../store/data-keys.ts";
import { openTransit } from "../vault/transit.ts";
import { openVault } from "../vault/vault.ts";
import { DataKeys } from "./data-keys.ts";
import { isSealed, open, ownerOf, parseEnvelope, seal } from "./envelope.ts";
import { PayloadPolicy, type SealedPayloads } from "./policy.ts";

/** A `PayloadCodec` whose functions stand alone. The context says which workflow a payload belongs to; people's tools have none. */
export interface Codec {
  readonly encode: (payloads: Payload[], context?: SerializationContext) => Promise<Payload[]>;
  readonly decode: (payloads: Payload[], context?: SerializationContext) => Promise<Payload[]>;
}

/** The same for all workers and clients of a process. */
export interface PayloadSealing {
  /** For Temporal's workers and clients; undefined where payloads are plain. */
  readonly converter: DataConverter | undefined;
  /** For what speaks to people in Temporal's stead; undefined where payloads are plain. */
  readonly codec: Codec | undefined;
  /** Resolves once payloads can be sealed; NOT_READY while they cannot. */
  ready(): Promise<void>;
  close(): Promise<void>;
}

export const PLAIN_PAYLOADS: PayloadSealing = {
  converter: undefined,
  codec: undefined,
  ready: async () => undefined,
  close: async () => undefined,
};

/** Of a payload that was refused; its data says why. */
export const REFUSED_ENCODING = "binary/refused";

/** For the bundle of workflows, which is made once and has its own way to failures. */
export const FAILURE_CONVERTER_PATH = fileURLToPath(new URL("./failure-converter.ts", import.meta.url));

export interface SealingOptions {
  readonly databaseUrl: string;
  readonly onTrouble?: (detail: string) => void;
}

/** INVALID_FIELD when the policy is none (policy.ts). Reaches for nothing yet. */
export function openPayloadSealing(stated: unknown, options: SealingOptions): PayloadSealing {
  const policy = parseInput(PayloadPolicy, stated, "payloads");
  if (policy.mode === "plain") return PLAIN_PAYLOADS;
  const { keys, close } = openDataKeys(policy, options);
  const codec = payloadCodec(keys, policy);
  return {
    codec,
    converter: { payloadCodecs: [codec], failureConverterPath: FAILURE_CONVERTER_PATH },
    ready: async () => void (await keys.toSeal(0)),
    close,
  };
}

function openDataKeys(policy: SealedPayloads, { databaseUrl, onTrouble }: SealingOptions) {
  const vault = openVault(policy.vault, { callTimeoutMs: CODEC_LIMITS.callTimeoutMs });
  const registry = openDataKeyRegistry({ databaseUrl });
  const transit = openTransit(vault.calls, { mount: policy.vault.mounts.transit, key: policy.key });
  const keys = new DataKeys({ transit, registry, ...(onTrouble === undefined ? {} : { onTrouble }) });
  const close = async () => {
    keys.close();
    await Promise.all([vault.close(), registry.close()]);
  };
  return { keys, close };
}

/**
 * What was changed, and what was never sealed unless `acceptPlain`, comes out as a payload that no converter takes: an update with it is
 * rejected and harms nobody else, a step that was given it fails. So who reaches Temporal, and not Vault, can say nothing that is heard,
 * nor have one workflow hear what was said to another.
 * NOT_READY when Vault does not answer in time.
 */
export function payloadCodec(
  keys: Pick<DataKeys, "toSeal" | "toOpen">,
  { acceptPlain }: { readonly acceptPlain: boolean },
): Codec {
  const encode = async (payload: Payload, owner: string | undefined): Promise<Payload> => {
    const key = await keys.toSeal(payload.data?.byteLength ?? 0);
    return seal(payload, key.key, key, owner);
  };
  const decode = async (payload: Payload, owner: string | undefined): Promise<Payload> => {
    if (acceptPlain && !isSealed(payload)) return payload;
    try {
      const envelope = parseEnvelope(payload);
      if (owner !== undefined && envelope.owner !== undefined && envelope.owner !== owner) {
        const detail = `it belongs to the workflow ${envelope.owner}, not to ${owner}`;
        throw new ForeshiftError("PAYLOAD_REFUSED", { detail });
      }
      return open(envelope, await keys.toOpen(envelope));
    } catch (thrown) {
      if (thrown instanceof ForeshiftError && thrown.code === "PAYLOAD_REFUSED") return refusedPayload(thrown);
      throw thrown;
    }
  };
  return {
    encode: (payloads, context) => Promise.all(payloads.map((payload) => encode(payload, ownerIn(context)))),
    decode: (payloads, context) => Promise.all(payloads.map((payload) => decode(payload, ownerIn(context)))),
  };
}

function ownerIn(context: SerializationContext | undefined): string | undefined {
  if (context?.workflowId === undefined) return undefined;
  return ownerOf({ namespace: context.namespace, workflowId: context.workflowId });
}

function refusedPayload({ message }: ForeshiftError): Payload {
  return { metadata: { encoding: Buffer.from(REFUSED_ENCODING) }, data: Buffer.from(message) };
}
