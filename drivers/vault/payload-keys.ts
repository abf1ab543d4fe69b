/**
 * The transit key that seals payloads, and the registry of the data keys that it wraps, as a rotation sees them.
 */
import { ForeshiftError } from "../../models/errors.ts";
import type { PayloadKeys } from "../key-ports.ts";
import type { DataKeyRegistry } from "../store/data-keys.ts";
import { retireTransitVersions, rewrapDataKeys } from "../temporal-codec/rewrap.ts";
import type { Transit } from "./transit.ts";

export function payloadKeys(transit: Transit, registry: DataKeyRegistry): PayloadKeys {
  return {
    latestVersion: async () => (await transit.versions()).latest,
    rotate: () => transit.rotate(),
    rewrapSome: () => rewrapDataKeys({ transit, registry }),
    retireOld: () => retireTransitVersions({ transit, registry }),
  };
}

/** Of a control worker whose payloads are plain: there is no such key. */
export const noPayloadKeys: PayloadKeys = {
  latestVersion: () => Promise.reject(plain()),
  rotate: () => Promise.reject(plain()),
  rewrapSome: () => Promise.reject(plain()),
  retireOld: () => Promise.reject(plain()),
};

function plain(): ForeshiftError {
  return new ForeshiftError("INVALID_FIELD", { field: "payloads", value: "plain", detail: "no transit key seals anything" });
}
