/**
 * What all clients of AWS share: time limits, adaptive retries, and its errors in the terms of models/errors.ts.
 */
import { ForeshiftError, messageOf } from "../../models/errors.ts";
import { CLOUD_LIMITS } from "../../models/limits-cloud.ts";
import type { AwsAccess } from "./config.ts";

/** The SDK repeats what was throttled or got no answer, and lowers its own rate meanwhile. */
export function clientOptions({ region, endpoint }: AwsAccess) {
  return {
    region,
    ...(endpoint === undefined ? {} : { endpoint }),
    retryMode: "adaptive",
    maxAttempts: CLOUD_LIMITS.callAttemptsMax,
    requestHandler: { connectionTimeout: CLOUD_LIMITS.connectTimeoutMs, requestTimeout: CLOUD_LIMITS.requestTimeoutMs },
  };
}

const THROTTLED =
  /^(RequestLimitExceeded|Throttling|ThrottlingException|TooManyRequests(Exception)?|RequestThrottled(Exception)?|SlowDown|PriorRequestNotComplete)$/;
const UNAUTHORISED =
  /^(UnauthorizedOperation|AuthFailure|AccessDenied(Exception)?|InvalidClientTokenId|ExpiredToken(Exception)?|SignatureDoesNotMatch|OptInRequired|CredentialsProviderError)$/;
const NO_CAPACITY =
  /^(Insufficient(Instance|Host|ReservedInstance)?Capacity|InstanceLimitExceeded|VcpuLimitExceeded|MaxSpotInstanceCountExceeded|SpotMaxPriceTooLow|InsufficientFreeAddressesInSubnet|InsufficientVolumeCapacity|Unsupported)$/;
const UNREACHABLE = /^(ECONNREFUSED|ECONNRESET|ENOTFOUND|EHOSTUNREACH|EPIPE|TimeoutError|NetworkingError|AbortError)$/;
/** Passing states of a machine, and names that are not known everywhere yet. */
const NOT_YET =
  /^(IncorrectInstanceState|IncorrectState|InvalidInstanceID\.NotFound|InvalidNetworkInterfaceID\.NotFound|DependencyViolation|ResourceInUse)$/;
const SERVER_ERROR_STATUS = 500;

/** AWS's own code of an error; empty where it has none. */
export function codeOf(thrown: unknown): string {
  if (typeof thrown !== "object" || thrown === null) return "";
  const { name, code, Code } = thrown as { name?: unknown; code?: unknown; Code?: unknown };
  for (const one of [Code, code, name]) if (typeof one === "string" && one !== "" && one !== "Error") return one;
  return "";
}

export function isNoCapacity(thrown: unknown): boolean {
  return NO_CAPACITY.test(codeOf(thrown));
}

interface Stack {
  add(
    middleware: <A, R>(next: (args: A) => Promise<R>) => (args: A) => Promise<R>,
    where: { readonly step: "deserialize"; readonly priority: "high"; readonly name: string },
  ): void;
}

/** EC2 answers that it has no room with a status that the SDK would repeat for many seconds; there is another type, or zone, to ask for. */
export function withoutWaitingForRoom<C extends { readonly middlewareStack: object }>(client: C): C {
  (client.middlewareStack as Stack).add(
    (next) => async (args) => {
      try {
        return await next(args);
      } catch (thrown) {
        if (isNoCapacity(thrown) && typeof thrown === "object" && thrown !== null)
          Object.assign(thrown, { $metadata: { httpStatusCode: 409 } });
        throw thrown;
      }
    },
    { step: "deserialize", priority: "high", name: "noWaitingForRoom" },
  );
  return client;
}

/** `what` is said to the person: the action, and what it was asked of. */
export async function asked<T>(what: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (thrown) {
    throw thrown instanceof ForeshiftError ? thrown : translated(what, thrown);
  }
}

function translated(value: string, thrown: unknown): ForeshiftError {
  const code = codeOf(thrown);
  const detail = `${code}: ${messageOf(thrown)}`.slice(0, CLOUD_LIMITS.messageCharsMax);
  const options = { cause: thrown };
  if (THROTTLED.test(code)) return new ForeshiftError("CLOUD_THROTTLED", { value, detail }, options);
  if (NO_CAPACITY.test(code)) return new ForeshiftError("CLOUD_NO_CAPACITY", { value, detail }, options);
  if (UNAUTHORISED.test(code)) return new ForeshiftError("UNAUTHORISED", { field: `AWS (${value})`, detail }, options);
  if (UNREACHABLE.test(code)) return new ForeshiftError("UNREACHABLE", { field: "AWS", value, detail }, options);
  if (NOT_YET.test(code)) return new ForeshiftError("NOT_READY", { value, detail }, options);
  const failed = statusOf(thrown) >= SERVER_ERROR_STATUS;
  return new ForeshiftError(failed ? "CLOUD_FAILED" : "CLOUD_REFUSED", { value, detail }, options);
}

function statusOf(thrown: unknown): number {
  if (typeof thrown !== "object" || thrown === null || !("$metadata" in thrown)) return 0;
  const { $metadata } = thrown as { $metadata?: { httpStatusCode?: number } };
  return $metadata?.httpStatusCode ?? 0;
}
