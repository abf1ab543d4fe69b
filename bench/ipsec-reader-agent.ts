/** The agents of `ipsec-reader.ts`: the product's own, on kernels that are played, and on keys that are sealed by name alone. */
import { pino } from "pino";
import type { UnixHttpClient } from "../drivers/http-unix.ts";
import type { IkeSaView } from "../drivers/tunnel/strongswan.ts";
import type { IpsecKernel } from "../drivers/tunnel/xfrm-kernel.ts";
import type { XfrmState } from "../drivers/tunnel/xfrm-state.ts";
import type { TextSealer } from "../drivers/vault/sealed-text.ts";
import { IpsecGateway } from "../workers/agent/ipsec/gateway.ts";

export const [SWARM, HOLDER, SHADOW] = ["bench", "gw-1", "gw-2"] as const;

const VIP = "198.19.0.1";
const ALGORITHM = { kind: "aead", name: "rfc4106(gcm(aes))", key: `0x${"00".repeat(20)}`, bits: 128 } as const;

export function benchedAgent(
  endpoint: string,
  collector: UnixHttpClient,
  kernel: IpsecKernel,
  views: readonly IkeSaView[],
): IpsecGateway {
  return new IpsecGateway({
    swarm: SWARM,
    endpoint,
    kernel,
    ike: { sas: () => Promise.resolve(views), initiate: () => Promise.resolve(), terminate: () => Promise.resolve() },
    hold: { hold: () => Promise.resolve(() => Promise.resolve()), open: () => Promise.resolve() },
    sealer: LABELS,
    reflex: { put: <T>() => Promise.resolve(undefined as T) },
    collector,
    clockOffsetMs: () => 0,
    pace: { packets: 2, tenths: 1 },
    log: pino({ level: "silent" }),
  });
}

/** Vault is asked once for each SA; what is measured comes after. */
const LABELS: TextSealer = {
  seal: (texts) => Promise.resolve(texts.map(({ value }) => `vault:v1:${Buffer.from(value).toString("base64")}`)),
  open: (texts) =>
    Promise.resolve(texts.map(({ value }) => Buffer.from(value.replace("vault:v1:", ""), "base64").toString("utf8"))),
};

/** Of which nobody hears but by `follow`, which a bench may have another do. */
export function quietKernel(states: readonly XfrmState[]): IpsecKernel {
  return {
    states: () => Promise.resolve([...states]),
    batch: () => Promise.resolve(),
    follow: (_, __, signal) => new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true })),
    setEventPace: () => Promise.resolve(),
    setPaceOf: () => Promise.resolve(),
  };
}

/** A client's pair of SAs, outbound by the lower SPI, and its IKE SA. */
export function benchedSession(n: number, firstSpi: number): { readonly sas: readonly XfrmState[]; readonly view: IkeSaView } {
  const client = `198.18.0.${1 + n}`;
  const [outboundSpi, inboundSpi] = [firstSpi + n * 2, firstSpi + n * 2 + 1];
  const common = {
    reqid: 1 + n,
    mode: "tunnel",
    esn: false,
    flags: ["af-unspec"],
    seen: "0",
    bytes: 0,
    packets: 0,
    inboundSequence: 0,
    outboundSequence: 0,
    algorithms: [ALGORITHM],
  } as const;
  return {
    sas: [
      { ...common, source: VIP, destination: client, spi: outboundSpi, replayWindow: 0 },
      { ...common, source: client, destination: VIP, spi: inboundSpi, replayWindow: 32 },
    ],
    view: {
      uniqueId: `${n}`,
      connection: `client-${n}`,
      initiatorSpi: n.toString(16).padStart(16, "a"),
      responderSpi: n.toString(16).padStart(16, "b"),
      localHost: VIP,
      localPort: 500,
      remoteHost: client,
      remotePort: 500,
      localId: "gateway",
      remoteId: `client-${n}`,
      children: [
        {
          name: "net",
          inboundSpi,
          outboundSpi,
          local: ["198.18.200.0/24"],
          remote: [`10.9.0.${n}/32`],
          secondsLeft: undefined,
        },
      ],
    },
  };
}
