/**
 * Real services for one test file, in a folder of its own that goes away with it.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { migrate } from "../../drivers/store/migrate.ts";
import { type OpenBaoService, type PostgresService, startOpenBao, startPostgres } from "../../setup/services.ts";

export interface TestHome {
  readonly home: string;
  readonly run: string;
  remove(): Promise<void>;
}

export async function testHome(): Promise<TestHome> {
  const home = await mkdtemp(join(tmpdir(), "fs-test-"));
  return { home, run: join(home, "run"), remove: () => rm(home, { recursive: true, force: true }) };
}

export interface TestPostgres {
  readonly url: string;
  /** Kills the server and starts it again on the same data and port. */
  killAndRestart(): Promise<void>;
  kill(): Promise<void>;
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** A server of the test's own, whatever DATABASE_URL says: tests kill it. */
export async function testPostgres(where: TestHome, options: { migrated: boolean }): Promise<TestPostgres> {
  delete process.env.DATABASE_URL;
  let service: PostgresService = await startPostgres(where);
  const url = service.url;
  if (options.migrated) await migrate(url);
  const kill = async () => {
    const ended = new Promise<void>((resolve) => service.onExit(() => resolve()));
    if (service.pid !== undefined) process.kill(service.pid, "SIGKILL");
    await ended;
  };
  const start = async () => {
    service = await startPostgres(where);
    if (service.url !== url) throw new Error("the server came back at another address");
  };
  return {
    url,
    kill,
    start,
    killAndRestart: async () => {
      await kill();
      await start();
    },
    stop: () => service.stop(),
  };
}

/** A server of the test's own, whatever VAULT_ADDR says. */
export function testOpenBao(where: TestHome): Promise<OpenBaoService> {
  delete process.env.VAULT_ADDR;
  return startOpenBao(where);
}
