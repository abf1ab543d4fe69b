/** What the agent has strongSwan say and do, over VICI: its IKE SAs, and one more of its own with a client. */
import { z } from "zod";
import { IPSEC_LIMITS } from "../../models/limits-ipsec.ts";
import { ViciClient } from "./vici.ts";
import type { ViciSection, ViciValue } from "./vici-message.ts";

export interface IkeChild {
  readonly name: string;
  readonly inboundSpi: number;
  readonly outboundSpi: number;
  readonly local: readonly string[];
  readonly remote: readonly string[];
  /** Until its hard end; undefined where it has none. */
  readonly secondsLeft: number | undefined;
}

export interface IkeSaView {
  /** The daemon's own number for it. */
  readonly uniqueId: string;
  readonly connection: string;
  readonly initiatorSpi: string;
  readonly responderSpi: string;
  readonly localHost: string;
  readonly localPort: number;
  readonly remoteHost: string;
  readonly remotePort: number;
  readonly localId: string;
  readonly remoteId: string;
  readonly children: readonly IkeChild[];
}

/** As the agent needs it, so that a test may stand in for a daemon that needs a kernel with ESP. */
export interface IkeDaemon {
  /** Established ones alone. UNREACHABLE when nobody answers. */
  sas(): Promise<readonly IkeSaView[]>;
  /** Begins an IKE SA with the client of this connection and waits for its CHILD SA. COMMAND_FAILED when there is none in the end. */
  initiate(connection: string, child: string): Promise<void>;
  /** Tells the peer that this IKE SA ends, with its CHILD SAs. COMMAND_FAILED when there is none. */
  terminate(uniqueId: string): Promise<void>;
}

export function strongSwan(socketPath: string): IkeDaemon {
  const withClient = async <R>(work: (client: ViciClient) => Promise<R>, timeoutMs?: number) => {
    const client = await ViciClient.open(socketPath, timeoutMs);
    try {
      return await work(client);
    } finally {
      client.close();
    }
  };
  return {
    sas: async () => ikeSasOf(await withClient((client) => client.stream("list-sas", "list-sa"))),
    initiate: async (connection, child) => {
      const timeoutMs = IPSEC_LIMITS.initiateTimeoutMs;
      const message = new Map([
        ["ike", connection],
        ["child", child],
        ["timeout", `${timeoutMs}`],
      ]);
      await withClient((client) => client.command("initiate", message), timeoutMs + IPSEC_LIMITS.viciTimeoutMs);
    },
    terminate: async (uniqueId) => {
      const message = new Map([
        ["ike-id", uniqueId],
        ["force", "yes"],
        ["timeout", `${IPSEC_LIMITS.terminateTimeoutMs}`],
      ]);
      await withClient((client) => client.command("terminate", message));
    },
  };
}

const Port = z.coerce.number().int().min(1).max(65_535);
const Hex = z.string().regex(/^[0-9a-f]{1,16}$/);

const Child = z.object({
  name: z.string(),
  state: z.string(),
  protocol: z.string().default("ESP"),
  "spi-in": Hex,
  "spi-out": Hex,
  "life-time": z.coerce.number().int().optional(),
  "local-ts": z.array(z.string()).default([]),
  "remote-ts": z.array(z.string()).default([]),
});

const Ike = z.object({
  uniqueid: z.string().regex(/^\d{1,10}$/),
  state: z.string(),
  "initiator-spi": Hex,
  "responder-spi": Hex,
  "local-host": z.string(),
  "local-port": Port.default(500),
  "remote-host": z.string(),
  "remote-port": Port.default(500),
  "local-id": z.string().default(""),
  "remote-id": z.string().default(""),
});

/** Of `list-sa` events. What does not read as an established IKE SA, or an installed CHILD SA of ESP, is left out. */
export function ikeSasOf(events: readonly ViciSection[]): readonly IkeSaView[] {
  return events.flatMap((event) =>
    [...event].flatMap(([connection, value]) => {
      if (!isSection(value)) return [];
      const parsed = Ike.safeParse(plain(value));
      if (!parsed.success || parsed.data.state !== "ESTABLISHED") return [];
      const ike = parsed.data;
      const children = value.get("child-sas");
      return [
        {
          uniqueId: ike.uniqueid,
          connection,
          initiatorSpi: ike["initiator-spi"].padStart(16, "0"),
          responderSpi: ike["responder-spi"].padStart(16, "0"),
          localHost: ike["local-host"],
          localPort: ike["local-port"],
          remoteHost: ike["remote-host"],
          remotePort: ike["remote-port"],
          localId: ike["local-id"],
          remoteId: ike["remote-id"],
          children: isSection(children) ? [...children.values()].flatMap(childOf) : [],
        },
      ];
    }),
  );
}

function childOf(value: ViciValue): readonly IkeChild[] {
  if (!isSection(value)) return [];
  const parsed = Child.safeParse(plain(value));
  if (!parsed.success || parsed.data.state !== "INSTALLED" || parsed.data.protocol !== "ESP") return [];
  const child = parsed.data;
  return [
    {
      name: child.name,
      inboundSpi: Number.parseInt(child["spi-in"], 16),
      outboundSpi: Number.parseInt(child["spi-out"], 16),
      local: child["local-ts"],
      remote: child["remote-ts"],
      secondsLeft: child["life-time"],
    },
  ];
}

function isSection(value: ViciValue | undefined): value is ViciSection {
  return value instanceof Map;
}

function plain(section: ViciSection): Readonly<Record<string, unknown>> {
  return Object.fromEntries([...section].filter(([, value]) => !isSection(value)));
}
