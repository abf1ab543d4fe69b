/**
 * The part of an agent that the reflex needs, on a real WireGuard device: reports the sessions it holds, adopts and retires them. The
 * agent itself is tested with Vault and the collector around it; here they would only be in the way.
 */
import type { Logger } from "pino";
import { NO_RETRY, UnixHttpClient } from "../../drivers/http-unix.ts";
import { runScript } from "../../lab/namespace.ts";
import type { SessionState } from "../../models/session.ts";
import { serve } from "../../workers/http-server.ts";

const REPORT_MS = 100;

export interface TestAgent {
  readonly adopted: string[];
  close(): Promise<void>;
}

export interface TestAgentOptions {
  readonly endpoint: string;
  readonly socketPath: string;
  readonly reflexSocket: string;
  /** Peers that are clients. */
  readonly clients: ReadonlySet<string>;
  readonly log: Logger;
}

export async function startTestAgent(options: TestAgentOptions): Promise<TestAgent> {
  const { endpoint, clients } = options;
  const adopted: string[] = [];
  const reflex = new UnixHttpClient({ socketPath: options.reflexSocket, name: "reflex" });
  const served = await serve({
    socketPath: options.socketPath,
    log: options.log,
    routes: (app) => {
      app.post("/v1/adopt", async (request) => {
        const { sessions } = request.body as { sessions: readonly SessionState[] };
        for (const session of sessions) adopted.push(session.publicKey);
        await runScript(sessions.map(adoption).join("\n"), endpoint);
        return { ok: true };
      });
      app.post("/v1/retire", async (request) => {
        const { publicKeys } = request.body as { publicKeys: readonly string[] };
        await runScript(publicKeys.map(retirement).join("\n"), endpoint);
        return { ok: true };
      });
    },
  });
  // What is known last is reported also when WireGuard is gone: these are the sessions to be taken over.
  let known: readonly SessionState[] = [];
  let closed = false;
  const report = async () => {
    while (!closed) {
      known = (await readSessions(endpoint, clients)) ?? known;
      const path = `/v1/endpoints/${endpoint}/sessions`;
      await reflex.put(path, { timeoutMs: 1_000, retry: NO_RETRY, body: known }).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, REPORT_MS));
    }
  };
  const reporting = report();
  return {
    adopted,
    close: async () => {
      closed = true;
      await reporting;
      await served.close();
      await reflex.close();
    },
  };
}

/** Removed and added again, so that no session of old times keeps it from beginning a handshake at once. */
function adoption(session: SessionState): string {
  const peer = `wg set wg0 peer ${session.publicKey}`;
  const add = `${peer} endpoint ${session.outerAddress} persistent-keepalive 1 allowed-ips ${session.innerAddresses.join(",")}`;
  return `${peer} remove; ${add}`;
}

/**
 * Session and address are forgotten, the peer is kept: who had sent something to which nothing came back would call the client by itself
 * 15 s later, and so have the session back.
 */
function retirement(publicKey: string): string {
  const peer = `wg set wg0 peer ${publicKey}`;
  return `addresses=$(wg show wg0 allowed-ips | grep -F ${publicKey} | cut -f 2 | tr ' ' ','); ${peer} remove; ${peer} allowed-ips "$addresses"`;
}

async function readSessions(endpoint: string, clients: ReadonlySet<string>): Promise<readonly SessionState[] | undefined> {
  const dump = await runScript("timeout 1 wg show wg0 dump", endpoint).catch(() => undefined);
  if (dump === undefined) return undefined;
  return dump.split("\n").flatMap((line): SessionState[] => {
    const [publicKey = "", , outerAddress = "", allowedIps = "", handshakeS = "0", rx = "0", tx = "0"] = line.split("\t");
    if (!clients.has(publicKey) || handshakeS === "0") return [];
    return [
      {
        publicKey,
        innerAddresses: allowedIps.split(",").map((address) => address.split("/")[0] ?? ""),
        endpoint,
        outerAddress,
        lastHandshakeMs: Number(handshakeS) * 1000,
        rxBytes: Number(rx),
        txBytes: Number(tx),
        version: 0,
        updatedAtMs: Date.now(),
      },
    ];
  });
}
