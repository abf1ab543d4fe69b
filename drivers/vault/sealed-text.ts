/** Texts that only the holders of a transit key can read, each tied to what it belongs to: it opens under no other name. */
import { z } from "zod";
import { ForeshiftError } from "../../models/errors.ts";
import type { VaultCalls } from "./vault.ts";

interface Named {
  readonly context: string;
  readonly value: string;
}

export interface TextSealer {
  /** `vault:vN:…`, in the order given. */
  seal(texts: readonly Named[]): Promise<readonly string[]>;
  /** In the order given; undefined for what is not to be opened: by another key, too old, or of another name. */
  open(texts: readonly Named[]): Promise<readonly (string | undefined)[]>;
}

const Sealed = z.object({
  data: z.object({
    batch_results: z.array(z.object({ ciphertext: z.string().optional(), plaintext: z.base64().optional() })),
  }),
});

/** Errors are those of the calls; an answer that is not transit's is UNREACHABLE. */
export function textSealer(calls: VaultCalls, { mount, key }: { readonly mount: string; readonly key: string }): TextSealer {
  const ask = async (action: "encrypt" | "decrypt", batch: readonly object[]) => {
    const parsed = Sealed.safeParse(
      await calls.post(`${mount}/${action}/${key}`, { batch_input: batch, partial_failure_response_code: 200 }),
    );
    // What came may hold a text, so it is not quoted.
    if (!parsed.success || parsed.data.data.batch_results.length !== batch.length)
      throw new ForeshiftError("UNREACHABLE", { field: "vault", value: "transit", detail: "it answered something else" });
    return parsed.data.data.batch_results;
  };
  const openAll = async (texts: readonly Named[]): Promise<readonly (string | undefined)[] | undefined> => {
    const batch = texts.map(({ context, value }) => ({ ciphertext: value, associated_data: base64(context) }));
    try {
      const results = await ask("decrypt", batch);
      // Beside others that open, what does not has an empty text.
      return results.map(({ plaintext = "" }) => (plaintext === "" ? undefined : Buffer.from(plaintext, "base64").toString()));
    } catch (thrown) {
      if (thrown instanceof ForeshiftError && thrown.code === "INVALID_FIELD") return undefined;
      throw thrown;
    }
  };
  return {
    seal: async (texts) => {
      if (texts.length === 0) return [];
      const results = await ask(
        "encrypt",
        texts.map(({ context, value }) => ({ plaintext: base64(value), associated_data: base64(context) })),
      );
      const sealed = results.flatMap(({ ciphertext = "" }) => (ciphertext === "" ? [] : [ciphertext]));
      if (sealed.length === texts.length) return sealed;
      throw new ForeshiftError("UNREACHABLE", { field: "vault", value: "transit", detail: "it sealed only some" });
    },
    open: async (texts) => {
      if (texts.length === 0) return [];
      const opened = await openAll(texts);
      if (opened !== undefined) return opened;
      // One among them spoils the answer to all.
      return await Promise.all(texts.map(async (text) => (texts.length > 1 ? (await openAll([text]))?.[0] : undefined)));
    },
  };
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}
