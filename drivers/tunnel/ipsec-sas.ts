/**
 * Between the kernel's SAs with strongSwan's IKE SAs, and the session that travels (models/ipsec/state.ts): what of it is secret, what a
 * shadow installs, and under which policies. Pure.
 */
import { z } from "zod";
import { ForeshiftError } from "../../models/errors.ts";
import type { ChildSa, IpsecSession } from "../../models/ipsec/state.ts";
import type { TakeoverPlan } from "../../models/ipsec/takeover.ts";
import { parseInput } from "../../models/parse.ts";
import type { XfrmState } from "./xfrm-state.ts";

/** Below what daemons give out (RFC 4303, 2.1, leaves 1 to 255 to others), above what is reserved. */
const SAMPLE_SPI = 256;

/** Of one SA what is sealed: all that its kernel needs beside its addresses and counters. */
const SaSecret = z.strictObject({
  algorithms: z
    .array(
      z.strictObject({
        kind: z.enum(["aead", "auth-trunc", "enc"]),
        name: z.string().regex(/^[a-z0-9(),_-]{1,64}$/i),
        key: z.string().regex(/^(0x[0-9a-f]+)?$/),
        bits: z.number().int().positive().optional(),
      }),
    )
    .min(1)
    .max(2),
  flags: z.array(z.string().regex(/^[a-z0-9-]{1,32}$/)).max(16),
  replayWindow: z.number().int().nonnegative(),
});
export type SaSecret = z.infer<typeof SaSecret>;

/** INVALID_FIELD, without what was in it, for a text that is none. */
export function parseSaSecret(text: string): SaSecret {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  const parsed = SaSecret.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new ForeshiftError("INVALID_FIELD", { field: "sealed keys", value: "a text", detail: "they are not those of an SA" });
}

export function saSecret({ algorithms, flags, replayWindow }: XfrmState): string {
  return JSON.stringify({ algorithms, flags, replayWindow });
}

/** Ties a sealed text to its SA, so that it cannot be given out as another's. */
export function sealContext(endpoint: string, spi: number, direction: "in" | "out"): string {
  return `${endpoint} ${direction} ${spi}`;
}

/** A pair of SAs of a child, opened. */
export interface OpenedChild {
  readonly outbound: SaSecret;
  readonly inbound: SaSecret;
}

export interface SaPair {
  readonly outbound: XfrmState;
  readonly inbound: XfrmState;
}

/**
 * An SA of the kind, with a key of nobody's, between addresses of nobody's (RFC 5737): installed and taken out, it has the kernel load the code
 * of its algorithms, which takes a slow machine seconds. `random` gives so many bytes.
 */
export function sampleSa({ algorithms, flags }: SaSecret, random: (bytes: number) => Buffer): XfrmState {
  const strange = (key: string) => (key === "" ? "" : `0x${random((key.length - 2) / 2).toString("hex")}`);
  return {
    source: "192.0.2.1",
    destination: "192.0.2.2",
    spi: SAMPLE_SPI,
    reqid: SAMPLE_SPI,
    mode: "tunnel",
    esn: false,
    flags,
    replayWindow: 1,
    algorithms: algorithms.map((one) => ({ ...algorithm(one), key: strange(one.key) })),
    inboundSequence: 0,
    outboundSequence: 0,
    seen: "0",
    bytes: 0,
    packets: 0,
  };
}

/** As a shadow installs them: at the plan's numbers, with what is left of their lives. */
export function takenOver(
  { ike }: Pick<IpsecSession, "ike">,
  child: ChildSa,
  opened: OpenedChild,
  plan: TakeoverPlan,
  nowMs: number,
): SaPair {
  const [local, remote] = [hostOf(ike.local), hostOf(ike.remote)];
  const { lifetime, encapsulation: ports } = child;
  const left = (most: number | undefined, used: number) => (most === undefined ? undefined : Math.max(1, most - used));
  const common = {
    reqid: child.reqid,
    mode: child.mode,
    esn: child.esn,
    seen: "0",
    bytes: 0,
    packets: 0,
    bytesMax: left(lifetime.bytesMax, child.bytes),
    packetsMax: left(lifetime.packetsMax, child.packets),
    secondsMax: lifetime.endsAtMs === undefined ? undefined : Math.max(1, Math.floor((lifetime.endsAtMs - nowMs) / 1_000)),
  };
  const encapsulated = (source: number | undefined, destination: number | undefined) =>
    source === undefined || destination === undefined ? undefined : { sourcePort: source, destinationPort: destination };
  return {
    outbound: {
      ...common,
      ...opened.outbound,
      algorithms: opened.outbound.algorithms.map(algorithm),
      source: local,
      destination: remote,
      spi: child.outbound.spi,
      inboundSequence: 0,
      outboundSequence: plan.outboundSequence,
      encapsulation: encapsulated(ports?.localPort, ports?.remotePort),
    },
    inbound: {
      ...common,
      ...opened.inbound,
      algorithms: opened.inbound.algorithms.map(algorithm),
      replayWindow: plan.replayWindow,
      source: remote,
      destination: local,
      spi: child.inbound.spi,
      inboundSequence: plan.inboundSequence,
      outboundSequence: 0,
      encapsulation: encapsulated(ports?.remotePort, ports?.localPort),
    },
  };
}

function algorithm({ bits, ...rest }: SaSecret["algorithms"][number]): XfrmState["algorithms"][number] {
  return bits === undefined ? rest : { ...rest, bits };
}

/**
 * strongSwan's own priority of a policy that names no protocol and no port, by its selectors' lengths (kernel_netlink_ipsec.c,
 * get_priority, 5.9): so its policies and a shadow's are the same ones.
 */
const POLICY_PRIORITY_BASE = 400_000;
const LENGTH_STEP = 2 ** 9;

/** Lines for `ip -batch -`: the policies of a child's SAs. Without SAs under them they let nothing pass in the clear. */
export function policyLines({ ike }: Pick<IpsecSession, "ike">, child: ChildSa): readonly string[] {
  const [local, remote] = [hostOf(ike.local), hostOf(ike.remote)];
  const { reqid, mode } = child;
  return child.local.flatMap((near) =>
    child.remote.flatMap((far) => {
      const priority = POLICY_PRIORITY_BASE - (lengthOf(near) + lengthOf(far)) * LENGTH_STEP - 1;
      const line = (from: string, to: string, direction: string, ends: readonly [string, string]) =>
        `xfrm policy update src ${from} dst ${to} dir ${direction} priority ${priority} tmpl src ${ends[0]} dst ${ends[1]} proto esp reqid ${reqid} mode ${mode}`;
      const inward = mode === "tunnel" ? ["fwd", "in"] : ["in"];
      return [
        line(near, far, "out", [local, remote]),
        ...inward.map((direction) => line(far, near, direction, [remote, local])),
      ];
    }),
  );
}

function lengthOf(network: string): number {
  return Number(network.split("/")[1]);
}

/** Of `address:port` or `[address]:port`. INVALID_FIELD when it is neither, so that nothing else comes to stand in a command. */
export function hostOf(socketAddress: string): string {
  const host = /^(?:\[([0-9a-f:.]+)\]|(\d+\.\d+\.\d+\.\d+)):\d+$/i.exec(socketAddress);
  return parseInput(z.union([z.ipv4(), z.ipv6()]), host?.[1] ?? host?.[2], "address of an IKE SA");
}

/** `address/length` of one host: what the balancer can lead back. */
export function hostsOf(networks: readonly string[]): readonly string[] {
  return networks.flatMap((network) => {
    const [address = "", length] = network.split("/");
    return length === "32" && z.ipv4().safeParse(address).success ? [address] : [];
  });
}
