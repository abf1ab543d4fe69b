/**
 * The static keys that a swarm answers to: one that serves, and while it is rotated a second one in the other slot. A slot is a WireGuard
 * interface with a port of its own at every endpoint, because an interface has one private key. References only.
 */
import { z } from "zod";
import { ForeshiftError } from "./errors.ts";
import { PublicKey, SecretRef } from "./session.ts";

export const StaticIdentity = z.strictObject({
  publicKey: PublicKey,
  secret: SecretRef,
  slot: z.union([z.literal(0), z.literal(1)]),
  /** `beside`: brought up for clients to move to. `serving`: what probes use. `leaving`: clients move away from it. */
  state: z.enum(["beside", "serving", "leaving"]),
});
export type StaticIdentity = z.infer<typeof StaticIdentity>;

/** Exactly one serves; a second one, if there is one, is coming or leaving. */
export const StaticIdentities = z
  .array(StaticIdentity)
  .min(1)
  .max(2)
  .refine(isWhole, { error: "expected one identity that serves, and at most one other, in another slot and with another key" });

/** The identity that a swarm begins with: its file's. */
export function firstIdentity(key: { secret: SecretRef; publicKey: string }): StaticIdentity {
  return { ...key, slot: 0, state: "serving" };
}

/** Port of a slot, beside the VIP's own. */
export function portOfSlot(port: number, slot: StaticIdentity["slot"]): number {
  return port + slot;
}

export function servingOf(identities: readonly StaticIdentity[]): StaticIdentity {
  const serving = identities.find(({ state }) => state === "serving");
  if (serving === undefined) throw invalid(identities, "expected one that serves");
  return serving;
}

/** A further key beside the one that serves; the same key again changes nothing. INVALID_FIELD while there is another. */
export function broughtUp(
  identities: readonly StaticIdentity[],
  next: Pick<StaticIdentity, "publicKey" | "secret">,
): readonly StaticIdentity[] {
  const serving = servingOf(identities);
  const beside = identities.find(({ state }) => state === "beside");
  if (beside?.publicKey === next.publicKey) return identities;
  if (identities.length > 1) throw invalid(identities, "expected one: another rotation has not ended");
  if (serving.publicKey === next.publicKey) throw invalid(identities, "expected another key than the one that serves");
  return [serving, { ...next, slot: serving.slot === 0 ? 1 : 0, state: "beside" }];
}

/** The one beside serves, the one that served is left. */
export function switchedOver(identities: readonly StaticIdentity[]): readonly StaticIdentity[] {
  const states = { beside: "serving", serving: "leaving", leaving: "leaving" } as const;
  if (!identities.some(({ state }) => state === "beside")) return identities;
  return identities.map((identity) => ({ ...identity, state: states[identity.state] }));
}

/** The way back from `switchedOver`. */
export function switchedBack(identities: readonly StaticIdentity[]): readonly StaticIdentity[] {
  const states = { leaving: "serving", serving: "beside", beside: "beside" } as const;
  if (!identities.some(({ state }) => state === "leaving")) return identities;
  return identities.map((identity) => ({ ...identity, state: states[identity.state] }));
}

/** Only the one that serves is left. */
export function alone(identities: readonly StaticIdentity[]): readonly StaticIdentity[] {
  return [servingOf(identities)];
}

function isWhole(identities: readonly Pick<StaticIdentity, "publicKey" | "slot" | "state">[]): boolean {
  const [one, other] = identities;
  if (identities.filter(({ state }) => state === "serving").length !== 1) return false;
  return other === undefined || (one?.slot !== other.slot && one?.publicKey !== other.publicKey);
}

function invalid(identities: readonly StaticIdentity[], detail: string): ForeshiftError {
  const value = identities.map(({ slot, state }) => `${state} in slot ${slot}`).join(", ");
  return new ForeshiftError("INVALID_FIELD", { field: "identities", value, detail });
}
