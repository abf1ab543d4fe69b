/** What a schema of single fields cannot say of a swarm: addresses that cannot be a VIP, and fields that contradict each other. */
import { ForeshiftError } from "./errors.ts";
import { PublicKey } from "./session.ts";
import type { SwarmSpec } from "./swarm-spec.ts";

/** Throws INVALID_FIELD for the first contradiction. Updates are checked by this too, whoever sends them. */
export function checkSwarmSpec(spec: SwarmSpec): void {
  checkAddresses(spec);
  if (!PublicKey.safeParse(spec.key.publicKey).success) {
    refuse("key.publicKey", spec.key.publicKey, "expected 32 bytes in base64, as `wg pubkey` prints them");
  }
  const { thresholds, outlier, budget, endpoints } = spec;
  inOrder("endpoints.count", endpoints.count, "endpoints.countMax", endpoints.countMax ?? endpoints.count);
  inOrder("thresholds.lossDegraded", thresholds.lossDegraded, "thresholds.lossCritical", thresholds.lossCritical);
  inOrder("thresholds.cpuDegraded", thresholds.cpuDegraded, "thresholds.cpuCritical", thresholds.cpuCritical);
  inOrder("thresholds.holdMs", thresholds.holdMs, "thresholds.replaceAfterMs", thresholds.replaceAfterMs);
  inOrder("outlier.probeTimeoutMs", outlier.probeTimeoutMs, "outlier.probeIntervalMs", outlier.probeIntervalMs);
  inOrder("outlier.ejectionBaseMs", outlier.ejectionBaseMs, "outlier.ejectionLongestMs", outlier.ejectionLongestMs);
  const { disruptedShareMaxPercent, windowShareMaxPercent } = budget;
  inOrder("budget.disruptedShareMaxPercent", disruptedShareMaxPercent, "budget.windowShareMaxPercent", windowShareMaxPercent);
}

function inOrder(field: string, value: number, above: string, bound: number): void {
  if (value > bound) refuse(field, value, `expected at most ${bound}, which is ${above}`);
}

function refuse(field: string, value: string | number, detail: string): never {
  throw new ForeshiftError("INVALID_FIELD", { field, value, detail });
}

function checkAddresses({ vip }: SwarmSpec): void {
  const first = Number(vip.v4.split(".")[0]);
  const detail = "expected a unicast address that clients can reach, e.g. 198.19.0.1";
  if (first === 0 || first === 127 || first >= 224) refuse("vip.v4", vip.v4, detail);
  if (vip.v6 !== undefined && /^(::1?$|ff|fe[89ab])/i.test(vip.v6)) {
    refuse(
      "vip.v6",
      vip.v6,
      "expected a unicast address that clients can reach, e.g. 2001:db8::1; no loopback, multicast or link-local one",
    );
  }
}
