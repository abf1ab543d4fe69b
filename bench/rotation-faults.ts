/** How Vault fails in the midst of a rotation. */
import { VAULT_FAULTS } from "../lab/vault-faults.ts";

/** `stopped`: the server itself is ended, again and again while the fault lasts, and started anew by the supervisor. */
export const ROTATION_FAULTS = [...VAULT_FAULTS, "stopped"] as const;
export type RotationFault = (typeof ROTATION_FAULTS)[number];
