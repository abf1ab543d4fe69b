/**
 * An agent's IPsec on a kernel and a strongSwan that stand in for ones that this machine's kernel cannot be: SAs are lines that were put in,
 * transit is a cipher of the test's own. The collector's hub between endpoints is the real one.
 */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { PassThrough } from "node:stream";
import { pino } from "pino";
import type { IkeSaView } from "../../drivers/tunnel/strongswan.ts";
import type { XfrmEvent } from "../../drivers/tunnel/xfrm-events.ts";
import type { IpsecKernel } from "../../drivers/tunnel/xfrm-kernel.ts";
import type { XfrmState } from "../../drivers/tunnel/xfrm-state.ts";
import type { TextSealer } from "../../drivers/vault/sealed-text.ts";
import { IpsecLine, IpsecWord, SteeringWord } from "../../models/ipsec/wire.ts";
import { parseInput } from "../../models/parse.ts";
import { IpsecGateway } from "../../workers/agent/ipsec/gateway.ts";
import type { IpsecHub } from "../../workers/collector/ipsec-hub.ts";

export const KEYS = { outbound: `0x${"0b".repeat(20)}`, inbound: `0x${"1d".repeat(20)}` };
export const VIP = "198.19.0.1";

const NOBODY = " src 192.0.2.";

const transitKey = randomBytes(32);

/** AES-GCM with the context as associated data, as transit does it. */
export const sealer: TextSealer = {
  seal: async (texts) =>
    texts.map(({ context, value }) => {
      const nonce = randomBytes(12);
      const cipher = createCipheriv("aes-256-gcm", transitKey, nonce).setAAD(Buffer.from(context));
      const text = Buffer.concat([nonce, cipher.update(value), cipher.final(), cipher.getAuthTag()]);
      return `vault:v1:${text.toString("base64")}`;
    }),
  open: async (texts) =>
    texts.map(({ context, value }) => {
      try {
        const bytes = Buffer.from(value.replace("vault:v1:", ""), "base64");
        const cipher = createDecipheriv("aes-256-gcm", transitKey, bytes.subarray(0, 12)).setAAD(Buffer.from(context));
        cipher.setAuthTag(bytes.subarray(-16));
        return Buffer.concat([cipher.update(bytes.subarray(12, -16)), cipher.final()]).toString();
      } catch {
        return undefined;
      }
    }),
};

export class TestKernel implements IpsecKernel {
  sas: XfrmState[] = [];
  readonly lines: string[] = [];
  /** Of SAs between nobody and nobody. */
  readonly samples: string[] = [];
  readonly paced: number[] = [];
  /** Lines with this in them are refused. */
  refuses: string | undefined;
  #onEvents: (events: readonly XfrmEvent[]) => void = () => undefined;

  states(): Promise<readonly XfrmState[]> {
    return Promise.resolve([...this.sas]);
  }

  batch(lines: readonly string[]): Promise<void> {
    const { refuses } = this;
    if (refuses !== undefined && lines.some((line) => line.includes(refuses)))
      return Promise.reject(new Error("line 1: refused"));
    for (const line of lines) (line.includes(NOBODY) ? this.samples : this.lines).push(line);
    return Promise.resolve();
  }

  async follow(onEvents: (events: readonly XfrmEvent[]) => void, _: unknown, signal: AbortSignal): Promise<void> {
    this.#onEvents = onEvents;
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
  }

  setEventPace(): Promise<void> {
    return Promise.resolve();
  }

  setPaceOf(sas: readonly Pick<XfrmState, "destination" | "spi">[]): Promise<void> {
    this.paced.push(...sas.map(({ spi }) => spi));
    return Promise.resolve();
  }

  /** So many packets more by an SA, of which the kernel tells. */
  count(spi: number, packets: number): void {
    const at = this.sas.findIndex((state) => state.spi === spi);
    const state = this.sas[at];
    if (state === undefined) throw new Error(`no SA ${spi}`);
    const counted = (sequence: number, isOwn: boolean) => (isOwn ? sequence + packets : sequence);
    const next = {
      ...state,
      outboundSequence: counted(state.outboundSequence, state.source === VIP),
      inboundSequence: counted(state.inboundSequence, state.destination === VIP),
      packets: state.packets + packets,
    };
    this.sas[at] = next;
    const { destination, reqid, outboundSequence, inboundSequence, bytes } = next;
    const told = { destination, spi, reqid, outboundSequence, inboundSequence, bytes, packets: next.packets, seen: "1" };
    this.#onEvents([{ kind: "counters", ...told }]);
  }
}

export interface TestEndpoint {
  readonly gateway: IpsecGateway;
  readonly kernel: TestKernel;
  readonly views: IkeSaView[];
  readonly initiated: string[];
  /** What was done about the client's ESP and its IKE SAs, in its order. */
  readonly done: string[];
  /** What strongSwan does when it is to begin an IKE SA; nothing unless stated. */
  answer: (connection: string, child: string) => void | Promise<void>;
  /** Everything that left the agent or came to it, as text. */
  readonly heard: string[];
  steering: SteeringWord | undefined;
}

export function testEndpoint(swarm: string, endpoint: string, hub: IpsecHub): TestEndpoint {
  const kernel = new TestKernel();
  const views: IkeSaView[] = [];
  const initiated: string[] = [];
  const done: string[] = [];
  const heard: string[] = [];
  const collector = {
    post: async (path: string, { body }: { body?: unknown }) => {
      heard.push(JSON.stringify(body));
      const known = new URL(path, "http://collector").searchParams.get("shadows");
      return hub.take(parseInput(IpsecWord, body, "body"), known === null ? undefined : Number(known));
    },
  };
  const reflex = {
    put: async (_: string, { body }: { body?: unknown }) => {
      heard.push(JSON.stringify(body));
      made.steering = parseInput(SteeringWord, body, "body");
    },
  };
  const gateway = new IpsecGateway({
    swarm,
    endpoint,
    kernel,
    ike: {
      sas: () => Promise.resolve([...views]),
      initiate: async (connection, child) => {
        initiated.push(`${connection}/${child}`);
        done.push("initiate");
        await made.answer(connection, child);
      },
      terminate: (uniqueId) => {
        done.push(`terminate ${uniqueId}`);
        const at = views.findIndex((view) => view.uniqueId === uniqueId);
        for (const { inboundSpi, outboundSpi } of views[at]?.children ?? [])
          kernel.sas = kernel.sas.filter(({ spi }) => spi !== inboundSpi && spi !== outboundSpi);
        views.splice(at, 1);
        return Promise.resolve();
      },
    },
    hold: {
      hold: (client) => {
        done.push(`hold ${client}`);
        return Promise.resolve(() => Promise.resolve(void done.push("release")));
      },
      open: () => Promise.resolve(),
    },
    sealer,
    // The two methods as the agent calls them, without a socket between.
    reflex: reflex as never,
    collector: collector as never,
    clockOffsetMs: () => 0,
    pace: { packets: 2, tenths: 1 },
    log: pino({ level: "silent" }),
  });
  const made: TestEndpoint = {
    gateway,
    kernel,
    views,
    initiated,
    done,
    heard,
    steering: undefined,
    answer: () => undefined,
  };
  const out = new PassThrough();
  out.setEncoding("utf8").on("data", (text: string) => {
    heard.push(text);
    const lines = text.split("\n").filter((line) => line !== "");
    gateway.takeLines(lines.map((line) => parseInput(IpsecLine, JSON.parse(line), "line")));
  });
  hub.subscribe(swarm, endpoint, out);
  return made;
}

/** A client's session with an endpoint: a pair of SAs under an IKE SA. */
export function clientSession(n: number): { readonly sas: readonly XfrmState[]; readonly view: IkeSaView } {
  const client = `198.18.0.${8 + n}`;
  const [inboundSpi, outboundSpi] = [0xc0_00_00_00 + n, 0xc1_00_00_00 + n];
  const common = {
    reqid: 8 + n,
    mode: "tunnel" as const,
    esn: false,
    flags: ["af-unspec"],
    seen: "0",
    bytes: 0,
    packets: 0,
    secondsMax: 3_960,
  };
  const algorithm = (key: string) => [{ kind: "aead" as const, name: "rfc4106(gcm(aes))", key, bits: 128 }];
  const outbound = {
    source: VIP,
    destination: client,
    spi: outboundSpi,
    replayWindow: 0,
    algorithms: algorithm(KEYS.outbound),
  };
  const inbound = { source: client, destination: VIP, spi: inboundSpi, replayWindow: 32, algorithms: algorithm(KEYS.inbound) };
  return {
    sas: [
      { ...common, ...outbound, inboundSequence: 0, outboundSequence: 100 },
      { ...common, ...inbound, inboundSequence: 90, outboundSequence: 0 },
    ],
    view: {
      uniqueId: `${n}`,
      connection: "net",
      initiatorSpi: n.toString(16).padStart(16, "a"),
      responderSpi: n.toString(16).padStart(16, "b"),
      localHost: VIP,
      localPort: 500,
      remoteHost: client,
      remotePort: 500,
      localId: "gateway",
      remoteId: `client-${n}`,
      children: [
        { name: "net", inboundSpi, outboundSpi, local: ["198.18.200.0/24"], remote: [`10.9.0.${n}/32`], secondsLeft: 3_600 },
      ],
    },
  };
}
