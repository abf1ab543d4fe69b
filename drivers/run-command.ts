/**
 * Runs a system command with a deadline. Secrets go in by standard input, never by an argument; what a command read is never
 * part of an error.
 */
import { spawn } from "node:child_process";
import { ForeshiftError } from "../models/errors.ts";
import { LIMITS } from "../models/limits.ts";

export interface RunOptions {
  readonly timeoutMs: number;
  readonly input?: string;
}

/**
 * The command's standard output. COMMAND_FAILED with the end of its standard error when it fails or is late, MISSING_TOOL when it
 * is not installed.
 */
export function runCommand(file: string, args: readonly string[], options: RunOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: "pipe", timeout: options.timeoutMs, killSignal: "SIGKILL" });
    let output = "";
    let errors = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      if (output.length > LIMITS.command.outputCharsMax) child.kill("SIGKILL");
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      errors = (errors + text).slice(-LIMITS.command.errorCharsMax);
    });
    // A command that ends without reading all of its input breaks the pipe; its exit status tells the rest.
    child.stdin.on("error", () => undefined);
    child.stdin.end(options.input ?? "");
    const what = [file, ...args.slice(0, 4)].join(" ");
    child.once("error", (error: NodeJS.ErrnoException) => {
      const code = error.code === "ENOENT" ? "MISSING_TOOL" : "COMMAND_FAILED";
      reject(new ForeshiftError(code, { field: what, value: file, detail: error.message }));
    });
    child.once("close", (status, signal) => {
      if (status === 0) return resolve(output);
      const why = signal === null ? `exit status ${status}` : `ended by ${signal} (deadline ${options.timeoutMs} ms)`;
      reject(new ForeshiftError("COMMAND_FAILED", { field: what, detail: `${why}: ${errors.trim()}` }));
    });
  });
}

/**
 * The same, for a command that opens `/dev/stdin` by name: that works on a pipe only, and Node hands its children a socket.
 */
export function runWithPipe(file: string, args: readonly string[], options: RunOptions & { input: string }): Promise<string> {
  return runCommand("sh", ["-c", 'cat | exec "$@"', "sh", file, ...args], options);
}
