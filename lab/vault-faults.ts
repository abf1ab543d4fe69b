/**
 * A proxy before a real Vault that can make it fail: the ways in which a process meets a Vault that is sealed, restarted, slow,
 * overloaded, misconfigured, or not a Vault at all.
 */
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import { setTimeout as delay } from "node:timers/promises";

export const VAULT_FAULTS = ["sealed", "away", "slow", "403", "429", "500", "garbage"] as const;
export type VaultFault = (typeof VAULT_FAULTS)[number];

/** Longer than anybody waits for an answer. */
const SLOW_MS = 10_000;

const ANSWERS: Readonly<Partial<Record<VaultFault, { status: number; body: string }>>> = {
  sealed: { status: 503, body: '{"errors":["Vault is sealed"]}' },
  "403": { status: 403, body: '{"errors":["permission denied"]}' },
  "429": { status: 429, body: '{"errors":["request path limited"]}' },
  "500": { status: 500, body: '{"errors":["internal error"]}' },
  garbage: { status: 200, body: "<html>It works!</html>" },
};

export interface VaultFaults {
  /** `http://127.0.0.1:PORT`, leading to the Vault that was named last. */
  readonly address: string;
  leadTo(address: string): void;
  inject(fault: VaultFault): void;
  heal(): void;
  close(): Promise<void>;
}

export async function vaultFaults(): Promise<VaultFaults> {
  let target = "";
  let fault: VaultFault | undefined;
  const server = createServer((asked, answer) => void serve(asked, answer, target, () => fault));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    address: `http://127.0.0.1:${portOf(server)}`,
    leadTo: (address) => {
      target = address;
    },
    inject: (next) => {
      fault = next;
    },
    heal: () => {
      fault = undefined;
    },
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

async function serve(
  asked: IncomingMessage,
  answer: ServerResponse,
  target: string,
  faultNow: () => VaultFault | undefined,
): Promise<void> {
  const fault = faultNow();
  if (fault === "away") return void asked.socket.destroy();
  if (fault === "slow") await delay(SLOW_MS);
  const canned = fault === undefined ? undefined : ANSWERS[fault];
  if (canned !== undefined) {
    asked.resume();
    answer.writeHead(canned.status, { "content-type": "application/json" }).end(canned.body);
    return;
  }
  const { headers, method, url } = asked;
  const onward = request(new URL(url ?? "/", target), { method, headers }, (found) => {
    answer.writeHead(found.statusCode ?? 502, found.headers);
    found.pipe(answer);
  });
  onward.on("error", () => answer.destroy());
  asked.pipe(onward);
}
