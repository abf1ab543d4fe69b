/**
 * What a machine can carry: an allowance of packets a second in each direction, as clouds give their instances. What is more is dropped
 * before the machine sees it.
 */
import { runScript } from "./namespace.ts";

/** Shorter bursts than this are let through. */
const BURST_MS = 200;

export async function setPacketAllowance(host: string, perSecond: number): Promise<void> {
  const burst = Math.max(1, Math.round((perSecond * BURST_MS) / 1_000));
  const chain = (device: string) => `chain ${device} {
    type filter hook ingress device "${device}" priority filter; policy accept;
    limit rate over ${perSecond}/second burst ${burst} packets drop
  }`;
  const table = `table netdev foreshift_allowance {
  ${chain("lb0")}
  ${chain("in0")}
}`;
  await runScript(`nft -f - <<'END'\n${table}\nEND`, host);
}
