// The payload codec: what is sealed comes back as it was or not at all, whatever happened to keys and bytes meanwhile.
import assert from "node:assert/strict";
import { test } from "node:test";
import { CancelledFailure, defaultPayloadConverter, type Payload } from "@temporalio/common";
import { historyFromJSON } from "@temporalio/common/lib/proto-utils.js";
import fc from "fast-check";
import { payloadCodec, REFUSED_ENCODING } from "../../drivers/temporal-codec/codec.ts";
import { DataKeys, type DataKeysOptions } from "../../drivers/temporal-codec/data-keys.ts";
import { keyId } from "../../drivers/temporal-codec/envelope.ts";
import { failureConverter } from "../../drivers/temporal-codec/failure-converter.ts";
import { readableEvents } from "../../drivers/temporal-codec/history.ts";
import { retireTransitVersions, rewrapDataKeys } from "../../drivers/temporal-codec/rewrap.ts";
import { ForeshiftError } from "../../models/errors.ts";
import { CODEC_LIMITS } from "../../models/limits-codec.ts";
import { MemoryTransit, memoryRegistry } from "../support/memory-transit.ts";
import { holdsAsync } from "../support/property.ts";

const AWAY = new ForeshiftError("NOT_READY", { value: "vault", detail: "it is sealed" });
const SEALED_ONLY = { acceptPlain: false };

const payloads = fc.record({
  metadata: fc.dictionary(fc.string({ maxLength: 12 }), fc.uint8Array({ maxLength: 24 }), {
    maxKeys: 4,
    noNullPrototype: true,
  }),
  data: fc.uint8Array({ maxLength: 200 }),
});

/** A process: its own keys over a Vault and a registry that it shares with others. */
function codecOver(transit = new MemoryTransit(), registry = memoryRegistry(), options: Partial<DataKeysOptions> = {}) {
  const keys = new DataKeys({ transit, registry, ...options });
  return { transit, registry, keys, ...payloadCodec(keys, SEALED_ONLY) };
}

function plain({ metadata, data }: Payload): object {
  const written = Object.entries(metadata ?? {}).map(([name, value]) => [name, Buffer.from(value).toString("hex")]);
  return { metadata: Object.fromEntries(written), data: Buffer.from(data ?? []).toString("hex") };
}

async function first(found: Promise<Payload[]>): Promise<Payload> {
  const [payload] = await found;
  assert.ok(payload !== undefined);
  return payload;
}

/** Nothing takes it for a value. */
function assertRefused(payload: Payload): void {
  assert.equal(Buffer.from(payload.metadata?.["encoding"] ?? []).toString(), REFUSED_ENCODING);
  assert.match(Buffer.from(payload.data ?? []).toString(), /^A sealed payload is refused: /);
  assert.throws(() => defaultPayloadConverter.fromPayload(payload), /Unknown encoding/);
}

const refusedAs = (code: string) => (thrown: unknown) => thrown instanceof ForeshiftError && thrown.code === code;

test("what is sealed comes back as it was, in its order, from another process", async (context) => {
  const property = fc.asyncProperty(fc.array(payloads, { maxLength: 5 }), async (given) => {
    const one = codecOver();
    const other = codecOver(one.transit, one.registry);
    const sealed = await one.encode(given);
    assert.deepEqual((await other.decode(sealed)).map(plain), given.map(plain));
    for (const [at, payload] of sealed.entries()) {
      const clear = Buffer.from(given[at]?.data ?? []);
      if (clear.byteLength >= 8) assert.ok(!Buffer.from(payload.data ?? []).includes(clear));
    }
  });
  await holdsAsync(context, property, 60);
});

test("a flipped bit, a cut, a swapped or missing part is refused, and never decoded to anything else", async (context) => {
  const { encode, decode, registry } = codecOver();
  const second = codecOver(undefined, registry);
  const [one, two] = await encode([
    { metadata: { encoding: Buffer.from("json/plain") }, data: Buffer.from('"one"') },
    { metadata: { encoding: Buffer.from("json/plain") }, data: Buffer.from('"two"') },
  ]);
  const foreign = await first(second.encode([{ metadata: {}, data: Buffer.from("three") }]));
  assert.ok(one?.metadata && one.data && two?.metadata && foreign.metadata);
  const { metadata, data } = one;
  const names = Object.keys(metadata);
  const flipped = (bytes: Uint8Array, bit: number): Uint8Array => {
    const copy = Uint8Array.from(bytes);
    const at = Math.floor(bit / 8) % copy.byteLength;
    copy[at] = (copy[at] ?? 0) ^ (1 << (bit % 8));
    return copy;
  };
  const changes = fc.oneof(
    fc.nat(8 * data.byteLength - 1).map((bit): Payload => ({ metadata, data: flipped(data, bit) })),
    fc.nat(data.byteLength - 1).map((length): Payload => ({ metadata, data: data.subarray(0, length) })),
    fc.uint8Array({ minLength: 1, maxLength: 9 }).map((tail): Payload => ({ metadata, data: Buffer.concat([data, tail]) })),
    fc.tuple(fc.constantFrom(...names), fc.nat(4_096)).map(([name, bit]): Payload => {
      const bytes = metadata[name] ?? new Uint8Array(1);
      return { metadata: { ...metadata, [name]: flipped(bytes, bit % (8 * bytes.byteLength)) }, data };
    }),
    fc.constantFrom(...names).map((name): Payload => {
      const { [name]: _, ...rest } = metadata;
      return { metadata: rest, data };
    }),
    fc.constantFrom("key-id", "wrapped-key").map((name): Payload => {
      const bytes = foreign.metadata?.[name] ?? new Uint8Array(0);
      return { metadata: { ...metadata, [name]: bytes }, data };
    }),
    fc.constant<Payload>({ metadata: { ...foreign.metadata }, data }),
    fc.constant<Payload>({ metadata: { ...metadata, more: new Uint8Array(1) }, data }),
    fc.constant<Payload>({ metadata: { encoding: Buffer.from("json/plain") }, data: Buffer.from('"one"') }),
    fc.constant<Payload>({}),
  );
  const property = fc.asyncProperty(changes, async (changed) => {
    assertRefused(await first(decode([changed])));
  });
  await holdsAsync(context, property, 600);
  assert.deepEqual(
    plain(await first(decode([two]))).valueOf(),
    plain({ metadata: { encoding: Buffer.from("json/plain") }, data: Buffer.from('"two"') }),
  );
});

test("what was said to one workflow is not heard by another; who reads for people, and payloads from before, need no owner", async () => {
  const { encode, decode } = codecOver();
  const given = [{ metadata: { encoding: Buffer.from("json/plain") }, data: Buffer.from('"drain"') }];
  const of = (workflowId: string, namespace = "default") => ({ type: "workflow", namespace, workflowId }) as const;
  const step = { type: "activity", namespace: "default", workflowId: "drain/lab/ep-1", isLocal: false } as const;
  const sealed = await encode(given, of("drain/lab/ep-1"));
  for (const context of [of("drain/lab/ep-1"), step, undefined])
    assert.deepEqual((await decode(sealed, context)).map(plain), given.map(plain));
  for (const context of [of("drain/lab/ep-10"), of("drain/lab/ep-1", "other"), of("swarm/lab")])
    assertRefused(await first(decode(sealed, context)));
  const [payload] = sealed;
  assert.ok(payload?.metadata !== undefined);
  const rest = Object.fromEntries(Object.entries(payload.metadata ?? {}).filter(([name]) => name !== "owner"));
  const claims: Payload["metadata"][] = [
    { ...payload.metadata, owner: Buffer.from("default/swarm/lab") },
    { ...rest, format: Buffer.from("foreshift/1") },
    { ...rest },
  ];
  for (const metadata of claims)
    assertRefused(await first(decode([{ ...payload, metadata: metadata ?? {} }], of("swarm/lab"))));
  // Sealed before payloads had owners.
  assert.deepEqual((await decode(await encode(given), of("swarm/lab"))).map(plain), given.map(plain));
  const scheduled = await encode(given, of("rotate-due/lab/transit"));
  const [one, next] = [of("rotate-due/lab/transit-2026-01-01T00:00:00Z"), of("rotate-due/lab/transit-2026-01-02T00:00:00Z")];
  assert.deepEqual((await decode(scheduled, one)).map(plain), given.map(plain));
  assert.deepEqual((await decode(await encode(given, one), next)).map(plain), given.map(plain));
});

type Step = "seal" | "rotate" | "rewrap" | "retire" | "new process";

test("in any order of rotating, rewrapping, retiring and restarting every payload stays readable", async (context) => {
  const steps = fc.array(fc.constantFrom<Step>("seal", "rotate", "rewrap", "retire", "new process"), { maxLength: 25 });
  const property = fc.asyncProperty(steps, async (story) => {
    let process = codecOver();
    const { transit, registry } = process;
    const sealed: Payload[] = [];
    for (const [at, step] of story.entries()) {
      if (step === "seal") sealed.push(await first(process.encode([{ metadata: {}, data: Buffer.from(`${at}`) }])));
      if (step === "rotate") await transit.rotate();
      if (step === "rewrap") await rewrapDataKeys({ transit, registry });
      if (step === "new process") process = codecOver(transit, registry);
      if (step === "retire") {
        const { left } = { left: await registry.countOlderThan((await transit.versions()).latest) };
        const retired = retireTransitVersions({ transit, registry });
        await (left > 0 ? assert.rejects(retired, refusedAs("NOT_READY")) : retired);
      }
    }
    const reader = codecOver(transit, registry);
    const texts = (await reader.decode(sealed)).map(({ data }) => Buffer.from(data ?? []).toString());
    assert.deepEqual(
      texts,
      story.flatMap((step, at) => (step === "seal" ? [`${at}`] : [])),
    );
  });
  await holdsAsync(context, property, 150);
});

test("a data key is given up after its uses, its bytes and its time", async () => {
  let now = 0;
  const limits = { dataKeyUsesMax: 3, dataKeyBytesMax: 100, dataKeyRefreshMs: 5_000, dataKeyLifeMs: 10_000 };
  const { keys, registry } = codecOver(undefined, undefined, { limits, now: () => now });
  const ids = [];
  for (let i = 0; i < 4; i += 1) ids.push((await keys.toSeal(1)).id);
  assert.deepEqual([new Set(ids.slice(0, 3)).size, new Set(ids).size], [1, 2]);
  const full = (await keys.toSeal(90)).id;
  assert.equal(full, ids[3]);
  const next = (await keys.toSeal(20)).id;
  assert.notEqual(next, full);
  now = 10_001;
  assert.notEqual((await keys.toSeal(1)).id, next);
  assert.equal(registry.rows.size, 4);
});

test("while Vault is away the known keys go on for their time, then sealing fails as something to be tried again", async () => {
  let now = 0;
  const troubles: string[] = [];
  const limits = { waitMs: 60, retryFirstMs: 5, dataKeyRetryMs: 100 };
  const { keys, transit, encode, decode } = codecOver(undefined, undefined, {
    limits,
    now: () => now,
    onTrouble: (detail) => troubles.push(detail),
  });
  const early = await first(encode([{ metadata: {}, data: Buffer.from("early") }]));
  transit.fault = AWAY;
  now = CODEC_LIMITS.dataKeyRefreshMs + 1;
  const late = await first(encode([{ metadata: {}, data: Buffer.from("late") }]));
  assert.deepEqual(
    (await decode([early, late])).map(({ data }) => Buffer.from(data ?? []).toString()),
    ["early", "late"],
  );
  assert.equal(troubles.length, 1, "a refresh was tried and its failure said");
  now = CODEC_LIMITS.dataKeyLifeMs + 1;
  await assert.rejects(encode([{ metadata: {}, data: Buffer.from("too late") }]), refusedAs("NOT_READY"));
  transit.fault = undefined;
  const after = await first(encode([{ metadata: {}, data: Buffer.from("after") }]));
  assert.notDeepEqual(after.metadata?.["key-id"], late.metadata?.["key-id"]);
  keys.close();
  await assert.rejects(encode([{ metadata: {}, data: Buffer.from("closed") }]), refusedAs("NOT_READY"));
});

test("an answer that comes too late for one attempt serves the next; one question is asked at a time", async () => {
  const { transit, registry, encode } = codecOver();
  const sealed = await first(encode([{ metadata: {}, data: Buffer.from("slow") }]));
  let unwraps = 0;
  const slow = {
    newDataKey: () => transit.newDataKey(),
    unwrap: async (wrapped: string) => {
      unwraps += 1;
      await new Promise((resolve) => setTimeout(resolve, 120));
      return await transit.unwrap(wrapped);
    },
  };
  const keys = new DataKeys({ transit: slow, registry, limits: { waitMs: 40, retryFirstMs: 5 } });
  const { decode } = payloadCodec(keys, SEALED_ONLY);
  const asked = await Promise.allSettled([decode([sealed]), decode([sealed]), decode([sealed])]);
  assert.deepEqual(
    asked.map(({ status }) => status),
    ["rejected", "rejected", "rejected"],
  );
  await new Promise((resolve) => setTimeout(resolve, 120));
  assert.equal((await decode([sealed])).length, 1);
  assert.equal(unwraps, 1);
});

test("a key that Vault unwraps to something else is not used, to open or to seal", async () => {
  const honest = codecOver();
  const sealed = await first(honest.encode([{ metadata: {}, data: Buffer.from("mine") }]));
  const lying = { newDataKey: () => honest.transit.newDataKey(), unwrap: async () => Buffer.alloc(32, 7) };
  const limits = { waitMs: 50, retryFirstMs: 5 };
  const { encode, decode } = payloadCodec(new DataKeys({ transit: lying, registry: honest.registry, limits }), SEALED_ONLY);
  assertRefused(await first(decode([sealed])));
  await assert.rejects(encode([{ metadata: {}, data: Buffer.from("mine") }]), refusedAs("NOT_READY"));
});

test("plain payloads are taken only where that is stated; keys are named without being told", async () => {
  const { keys } = codecOver();
  const payload = { metadata: { encoding: Buffer.from("json/plain") }, data: Buffer.from("1") };
  assertRefused(await first(payloadCodec(keys, SEALED_ONLY).decode([payload])));
  assert.deepEqual(await payloadCodec(keys, { acceptPlain: true }).decode([payload]), [payload]);
  assert.match(keyId(Buffer.alloc(32, 1)), /^[0-9a-f]{32}$/);
});

test("a step that the server cancelled before anybody had begun it is a cancellation, in its words or in none", async () => {
  const { decode } = codecOver();
  const unsealed = defaultPayloadConverter.toPayload("ACTIVITY_ID_NOT_STARTED");
  const canceledFailureInfo = { details: { payloads: await decode([unsealed]) } };
  const thrown = failureConverter.failureToError({ message: "cancelled", canceledFailureInfo }, defaultPayloadConverter);
  assert.ok(thrown instanceof CancelledFailure);
  assert.deepEqual([thrown.message, thrown.details], ["cancelled", []]);
});

test("a history is read with what Temporal's own markers say in the open, and with sealed ones opened", async () => {
  const { encode, decode } = codecOver();
  const asJson = ({ metadata, data }: Payload) => ({
    metadata: Object.fromEntries(Object.entries(metadata ?? {}).map(([name, value]) => [name, base64(value)])),
    data: base64(data ?? new Uint8Array()),
  });
  const plainly = defaultPayloadConverter.toPayload({ id: "a patch" });
  const sealed = await first(encode([defaultPayloadConverter.toPayload({ id: "ours" })]));
  const payloads = { payloads: [asJson(plainly), asJson(sealed)] };
  const at = { eventTime: "2026-01-01T00:00:00Z" };
  const history = historyFromJSON({
    events: [
      {
        ...at,
        eventId: "1",
        eventType: "EVENT_TYPE_MARKER_RECORDED",
        markerRecordedEventAttributes: { markerName: "core_patch", details: { told: payloads } },
      },
      {
        ...at,
        eventId: "2",
        eventType: "EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED",
        workflowExecutionSignaledEventAttributes: { signalName: "told", input: payloads },
      },
      {
        ...at,
        eventId: "3",
        eventType: "EVENT_TYPE_ACTIVITY_TASK_CANCELED",
        activityTaskCanceledEventAttributes: { details: payloads },
      },
    ],
  });
  const [marker, signal, cancelled] = (await readableEvents(history, { encode, decode })).map((event) => JSON.stringify(event));
  assert.match(marker ?? "", /"told":{"payloads":\[{"id":"a patch"},{"id":"ours"}\]}/);
  assert.match(cancelled ?? "", /"details":{"payloads":\[{"id":"a patch"},{"id":"ours"}\]}/);
  assert.match(signal ?? "", /"payloads":\[{"refused":"A sealed payload is refused: it is not sealed"},{"id":"ours"}\]/);
});

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64");
}
