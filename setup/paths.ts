/**
 * Where Foreshift keeps what: state, sockets, downloaded binaries, logs. One place decides, environment variables override.
 */
import { createHash } from "node:crypto";
import { lstat, mkdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { ForeshiftError, messageOf } from "../models/errors.ts";

export interface Paths {
  /** The checkout. */
  readonly project: string;
  /** Everything that must survive a restart. `FORESHIFT_HOME`, else `.foreshift` in the checkout. */
  readonly home: string;
  /** Unix sockets: short, because a socket's path may have 107 bytes at most. */
  readonly run: string;
  /** Downloaded binaries; may be shared between homes. `FORESHIFT_BIN`, else `.foreshift/bin` in the checkout. */
  readonly bin: string;
  readonly log: string;
}

const PROJECT = dirname(import.meta.dirname);
const RUN_HASH_DIGITS = 8;

export function paths(env: NodeJS.ProcessEnv = process.env): Paths {
  const home = resolve(env.FORESHIFT_HOME ?? join(PROJECT, ".foreshift"));
  const hash = createHash("sha256").update(home).digest("hex").slice(0, RUN_HASH_DIGITS);
  return {
    project: PROJECT,
    home,
    run: join(env.XDG_RUNTIME_DIR ?? "/tmp", `foreshift-${hash}`),
    bin: resolve(env.FORESHIFT_BIN ?? join(PROJECT, ".foreshift", "bin")),
    log: join(home, "log"),
  };
}

/** Creates the folders, for their owner only. DISK when it cannot; NOT_PERMITTED when somebody else's folder is in the way. */
export async function makePaths(where: Pick<Paths, "home" | "run" | "log">): Promise<void> {
  for (const folder of [where.home, where.log]) await makePrivate(folder);
  await makePrivate(where.run);
  const found = await lstat(where.run);
  // The run folder may lie in /tmp, where anybody can create a folder of that name first.
  if (!found.isDirectory() || found.uid !== process.getuid?.() || (found.mode & 0o077) !== 0) {
    throw new ForeshiftError("NOT_PERMITTED", { detail: `use ${where.run}: it is not a folder that only this user may enter` });
  }
}

async function makePrivate(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
  } catch (thrown) {
    throw new ForeshiftError("DISK", { value: folder, detail: messageOf(thrown) });
  }
}
