/** Runs a command to its end, with a time limit, and finds commands on PATH. */
import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { delimiter, join } from "node:path";

export interface Outcome {
  readonly ok: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ExecOptions {
  readonly timeoutMs: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

/** Ordinary users often lack these in their PATH, though the tools in them serve ordinary users too. */
const SYSTEM_FOLDERS = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"];
const OUTPUT_BYTES_MAX = 4 * 1024 ** 2;

/** Never throws: a command that cannot be started is one that failed. */
export function exec(command: string, args: readonly string[], options: ExecOptions): Promise<Outcome> {
  return new Promise((resolve) => {
    const settings = {
      timeout: options.timeoutMs,
      killSignal: "SIGKILL" as const,
      maxBuffer: OUTPUT_BYTES_MAX,
      ...(options.env === undefined ? {} : { env: options.env }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    };
    const child = execFile(command, [...args], settings, (error, stdout, stderr) => {
      const why = stderr.trim() === "" && error !== null ? error.message : stderr;
      resolve({ ok: error === null, stdout, stderr: why });
    });
    child.stdin?.end();
  });
}

/** The full path of a command, or undefined. The project's own `node_modules/.bin` does not count. */
export async function which(command: string): Promise<string | undefined> {
  const folders = (process.env.PATH ?? "").split(delimiter).filter((folder) => folder.startsWith("/"));
  for (const folder of new Set([...folders, ...SYSTEM_FOLDERS])) {
    const file = join(folder, command);
    if (!folder.includes("node_modules") && (await isExecutable(file))) return file;
  }
  return undefined;
}

export async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return (await stat(file)).isFile();
  } catch {
    return false;
  }
}
