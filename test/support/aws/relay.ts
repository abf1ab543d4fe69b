/**
 * Stands before moto and does what moto cannot be told to: gives an error in place of an answer, loses an answer, hides what was launched
 * for a while, and keeps to client tokens as EC2 does. It also notes every call, by the name that IAM has for it.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Answer {
  readonly status: number;
  readonly body: string;
}

export interface AwsCall {
  /** As IAM names it: `ec2:RunInstances`. */
  readonly action: string;
  readonly fields: URLSearchParams;
}

/** Answers in place of moto, or undefined; `pass` asks moto. */
export type Interceptor = (
  call: AwsCall,
  pass: () => Promise<Answer>,
) => Promise<Answer | "lost" | undefined> | Answer | "lost" | undefined;

export interface Relay {
  readonly url: string;
  readonly calls: AwsCall[];
  /** Asked first to last, until one answers; emptied by `reset`. */
  readonly intercept: Set<Interceptor>;
  /** False: two requests with one token are two launches, as when the first is not known everywhere yet. */
  keepsTokens: boolean;
  reset(): void;
  close(): Promise<void>;
}

/** Of Route 53's paths, which name no action. */
const ROUTE53: readonly (readonly [RegExp, string])[] = [
  [/^POST \/2013-04-01\/hostedzone\/[^/]+\/rrset/, "ChangeResourceRecordSets"],
  [/^GET \/2013-04-01\/hostedzone\/[^/]+\/rrset/, "ListResourceRecordSets"],
  [/^GET \/2013-04-01\/change\//, "GetChange"],
];

export async function startRelay(target: string): Promise<Relay> {
  const calls: AwsCall[] = [];
  const intercept = new Set<Interceptor>();
  const tokens = new Map<string, { fields: string; answer: Promise<Answer> }>();
  const server = createServer((from, to) => void handle(from, to));
  const handle = async (from: IncomingMessage, to: ServerResponse) => {
    const body = Buffer.concat(await from.toArray());
    const call = callOf(from, body.toString("utf8"));
    calls.push(call);
    const pass = async (): Promise<Answer> => {
      const token = relay.keepsTokens && call.action === "ec2:RunInstances" ? call.fields.get("ClientToken") : null;
      if (token === null) return await forward(target, from, body);
      const fields = call.fields.toString();
      const held = tokens.get(token);
      if (held !== undefined) return held.fields === fields ? await held.answer : awsError("IdempotentParameterMismatch");
      const answer = forward(target, from, body);
      tokens.set(token, { fields, answer });
      return await answer;
    };
    let answer: Answer | "lost" | undefined;
    for (const one of intercept) answer ??= await one(call, pass);
    answer ??= await pass();
    if (answer === "lost") to.destroy();
    else to.writeHead(answer.status, { "content-type": "text/xml" }).end(answer.body);
  };
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const relay: Relay = {
    url: `http://127.0.0.1:${port}`,
    calls,
    intercept,
    keepsTokens: true,
    reset: () => {
      intercept.clear();
      relay.keepsTokens = true;
    },
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return relay;
}

/** An error of AWS, as EC2's query protocol has it. */
export function awsError(code: string, status = 400): Answer {
  const body = `<?xml version="1.0"?><Response><Errors><Error><Code>${code}</Code><Message>told to</Message></Error></Errors><RequestID>0</RequestID></Response>`;
  return { status, body };
}

/** The next calls of an action that match fail with a code, so many times; answers how many did. */
export function failing(
  relay: Relay,
  action: string,
  code: string,
  { times = 1, status = 400, when = () => true }: { times?: number; status?: number; when?: (call: AwsCall) => boolean } = {},
): () => number {
  let failed = 0;
  relay.intercept.add((call) => {
    if (call.action !== action || failed >= times || !when(call)) return undefined;
    failed += 1;
    return awsError(code, status);
  });
  return () => failed;
}

function callOf(from: IncomingMessage, body: string): AwsCall {
  const fields = new URLSearchParams(body);
  const service = /Credential=[^/]+\/\d+\/[^/]+\/([^/]+)\//.exec(from.headers.authorization ?? "")?.[1] ?? "unknown";
  const line = `${from.method} ${from.url}`;
  const action = service === "route53" ? ROUTE53.find(([path]) => path.test(line))?.[1] : fields.get("Action");
  return { action: `${service}:${action ?? line}`, fields };
}

async function forward(target: string, from: IncomingMessage, body: Buffer): Promise<Answer> {
  const headers = { ...from.headers, "content-length": String(body.length) };
  // As it came: Vault asks STS for the path `//`, which is no URL by itself.
  const path = from.url ?? "/";
  const outgoing = request(target, { path, method: from.method ?? "GET", headers, agent: false });
  outgoing.end(body);
  const [response] = (await once(outgoing, "response")) as [IncomingMessage];
  const answer = Buffer.concat(await response.toArray()).toString("utf8");
  return { status: response.statusCode ?? 500, body: answer };
}
