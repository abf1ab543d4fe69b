/** A metadata service that answers as EC2's does: a token first. There is no such service outside of EC2. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface MetadataServer {
  readonly url: string;
  /** Below `/latest/`, by path. */
  readonly texts: Map<string, string>;
  /** The one that is good. */
  token: string;
  readonly tokensGiven: () => number;
  /** Does not answer any more, until it is opened again at the same address. */
  close(): Promise<void>;
  open(): Promise<void>;
}

export async function startMetadata(): Promise<MetadataServer> {
  let given = 0;
  const texts = new Map<string, string>();
  const server = createServer((request, response) => {
    const { headers, method, url = "" } = request;
    const answer = (status: number, text = "") => response.writeHead(status).end(text);
    const found = texts.get(url.replace(/^\/latest\//, ""));
    if (method === "PUT" && url === "/latest/api/token" && headers["x-aws-ec2-metadata-token-ttl-seconds"]) {
      given += 1;
      answer(200, opened.token);
    } else if (headers["x-aws-ec2-metadata-token"] !== opened.token) answer(401);
    else if (found !== undefined) answer(200, found);
    else answer(404);
  });
  let port = 0;
  const open = async () => {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    port = (server.address() as AddressInfo).port;
  };
  await open();
  const opened: MetadataServer = {
    url: `http://127.0.0.1:${port}`,
    texts,
    token: "token-1",
    tokensGiven: () => given,
    open,
    close: async () => {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
  return opened;
}

/** What EC2 gives an instance with a role. */
export function giveRole(
  { texts }: MetadataServer,
  role: string,
  keys: { readonly AccessKeyId: string; readonly SecretAccessKey: string; readonly Token: string },
): void {
  const folder = "meta-data/iam/security-credentials/";
  const Expiration = new Date(Date.now() + 6 * 3_600_000).toISOString();
  texts.set(folder, role);
  texts.set(`${folder}${role}`, JSON.stringify({ Code: "Success", Type: "AWS-HMAC", Expiration, ...keys }));
}

export interface ToldInstance {
  readonly id: string;
  readonly swarm: string;
  readonly address: string;
  readonly region: string;
  readonly zone: string;
}

/** What it says of this instance, and the user data that it was launched with. */
export function beInstance({ texts }: MetadataServer, instance: ToldInstance, userData: unknown): void {
  const { address, id, region, swarm, zone } = instance;
  texts.set("user-data", JSON.stringify(userData));
  texts.set("meta-data/instance-id", id);
  texts.set("meta-data/local-ipv4", address);
  texts.set("meta-data/placement/region", region);
  texts.set("meta-data/placement/availability-zone", zone);
  texts.set("meta-data/tags/instance/foreshift:swarm", swarm);
}
