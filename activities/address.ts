/**
 * An address moved to another instance by a person, written to the audit trail like every other change.
 */
import type { AwsAccess } from "../drivers/aws/config.ts";
import { type AddressMove, type AddressMoved, moveAddress } from "../drivers/hypervisor/ec2/address.ts";
import type { Store } from "../drivers/ports.ts";
import { ForeshiftError, messageOf } from "../models/errors.ts";

export interface AskedMove extends AddressMove {
  /** Names this move: said again, it leaves one row. */
  readonly operation: string;
  /** `*` where the balancer serves several. */
  readonly swarm: string;
  readonly by: string;
  readonly reason: string;
}

/**
 * Errors of `moveAddress`; UNREACHABLE when the move is made and cannot be written down. It is not held up by the stop switch, which is
 * there for automation.
 */
export async function moveAddressOnRecord(
  store: Pick<Store, "audit">,
  access: AwsAccess,
  { operation, swarm, by, reason, ...move }: AskedMove,
): Promise<AddressMoved> {
  const result = await moveAddress(access, move);
  const { address, kind, to, moved } = result;
  try {
    await store.audit({
      operation,
      action: "move an address",
      swarm,
      endpoint: undefined,
      outcome: moved ? "done" : "already-done",
      text: `${address} ${moved ? "moved to" : "was already on"} ${to}. ${by}: ${reason}`,
      workflowId: undefined,
      runId: undefined,
      details: { address, kind, to, by },
    });
  } catch (thrown) {
    const detail = `${address} is on ${to}, but that could not be written down: ${messageOf(thrown)}; run it again with --operation ${operation}`;
    throw new ForeshiftError("UNREACHABLE", { field: "database", value: "the audit trail", detail }, { cause: thrown });
  }
  return result;
}
