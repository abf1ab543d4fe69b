/**
 * Whether a process seals what it says to Temporal, and with which key. There is no default, so that nobody writes plain payloads by an
 * oversight.
 */
import { z } from "zod";
import { TRANSIT_KEYS } from "../../models/vault-layout.ts";
import { VaultConfig } from "../vault/config.ts";

const SealedPayloads = z.strictObject({
  mode: z.literal("sealed"),
  vault: VaultConfig,
  /** Name of the transit key. */
  key: z.string().min(1).default(TRANSIT_KEYS.payloads),
  /** Take plain payloads too, for as long as runs from before sealing was turned on are under way. */
  acceptPlain: z.boolean().default(false),
});
export type SealedPayloads = z.infer<typeof SealedPayloads>;

export const PayloadPolicy = z.discriminatedUnion("mode", [SealedPayloads, z.strictObject({ mode: z.literal("plain") })]);
export type PayloadPolicy = z.infer<typeof PayloadPolicy>;
