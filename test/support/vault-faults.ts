/** A Vault that answers as one does on a bad day, in front of a real one: what cannot be had of the real one on command. */
import { createServer, request } from "node:http";
import { type AddressInfo } from "node:net";

export const VAULT_FAULTS = ["403", "429", "500", "503", "garbage", "wrong answer", "slow", "cut"] as const;
export type VaultFault = (typeof VAULT_FAULTS)[number];

export interface FaultyVault {
  readonly address: string;
  /** Undefined: it answers as the real one. */
  fault: VaultFault | undefined;
  /** Requests so far. */
  asked: number;
  close(): Promise<void>;
}

const SLOW_MS = 10_000;

export async function faultyVault(realAddress: string): Promise<FaultyVault> {
  const real = new URL(realAddress);
  const state: { fault: VaultFault | undefined; asked: number } = { fault: undefined, asked: 0 };
  const server = createServer((incoming, outgoing) => {
    state.asked += 1;
    const fault = state.fault;
    const pass = () => {
      const { method, url, headers } = incoming;
      const onward = request({ hostname: real.hostname, port: real.port, method, path: url, headers }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(outgoing);
      });
      onward.on("error", () => outgoing.destroy());
      incoming.pipe(onward);
    };
    if (fault === undefined) return pass();
    if (fault === "slow") {
      const timer = setTimeout(pass, SLOW_MS);
      outgoing.on("close", () => clearTimeout(timer));
      return;
    }
    if (fault === "cut") return outgoing.destroy();
    if (fault === "garbage") return outgoing.end("<html>this is no Vault</html>");
    if (fault === "wrong answer") return outgoing.end(JSON.stringify({ data: { plaintext: "", ciphertext: "vault:v1:" } }));
    outgoing.writeHead(Number(fault), { "content-type": "application/json" });
    outgoing.end(JSON.stringify({ errors: [`${fault} on command`] }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  return Object.assign(state, { address: `http://127.0.0.1:${port}`, close });
}
