/**
 * The lab's codec server: the one door through which a person reads in Temporal's Web UI what is sealed everywhere else.
 */
import { createHash, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { writePrivateFile } from "./files.ts";

const TOKEN_BYTES = 32;

export interface LabCodecOptions {
  readonly host: string;
  readonly port: number;
  /** Of Temporal's Web UI. */
  readonly ui: string;
  readonly databaseUrl: string;
  readonly payloads: object;
  /** File with the operator's token, mode 0600; made when it is not there. */
  readonly tokenFile: string;
}

/** Configuration of `workers/codec.ts`; it holds the token's hash alone. */
export async function codecConfig(options: LabCodecOptions): Promise<object> {
  const { host, port, ui, databaseUrl, payloads, tokenFile } = options;
  const token = await operatorToken(tokenFile);
  const tokenSha256 = createHash("sha256").update(token).digest("hex");
  return {
    listen: { host, port },
    origin: `http://${host}:${port}`,
    ui,
    operators: [{ name: userInfo().username, tokenSha256 }],
    databaseUrl,
    payloads,
  };
}

async function operatorToken(file: string): Promise<string> {
  const known = (await readFile(file, "utf8").catch(() => "")).trim();
  if (known !== "") return known;
  const token = randomBytes(TOKEN_BYTES).toString("base64url");
  await writePrivateFile(file, `${token}\n`);
  return token;
}
