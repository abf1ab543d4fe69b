/** A shelf without any trained model. */
import type { ModelShelf } from "../../../drivers/ports.ts";
import { ForeshiftError } from "../../../models/errors.ts";

export const NO_MODELS: ModelShelf = {
  history: () => Promise.resolve([]),
  load: (scope, id) => Promise.reject(new ForeshiftError("UNKNOWN_MODEL", { value: id, detail: scope })),
};
