/**
 * The workflows as one file of JavaScript for their isolates. Making it takes seconds of CPU, so that it is kept beside the compiled modules,
 * where these are kept (`NODE_COMPILE_CACHE`): a control worker that was killed is back so much sooner.
 */
import { createHash, randomUUID } from "node:crypto";
import { readdir, readFile, rename, writeFile } from "node:fs/promises";
import { getCompileCacheDir } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { bundleWorkflowCode, type Logger, type WorkflowBundle } from "@temporalio/worker";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
/** All that workflow code may import of ours, and the versions of all else. */
const SOURCES = ["workflows", "models", "drivers/temporal-codec"];
const VERSIONS = "package-lock.json";

/** Promises of bundles by the failure converter inside them. */
const bundles = new Map<string | undefined, Promise<WorkflowBundle>>();

/** Made once in a process: workflow code is the same for every connection. */
export function bundleWorkflows(logger: Logger, failureConverterPath: string | undefined): Promise<WorkflowBundle> {
  const known = bundles.get(failureConverterPath);
  if (known !== undefined) return known;
  const bundle = keptOrMade(logger, failureConverterPath);
  bundles.set(failureConverterPath, bundle);
  bundle.catch(() => bundles.delete(failureConverterPath));
  return bundle;
}

async function keptOrMade(logger: Logger, failureConverterPath: string | undefined): Promise<WorkflowBundle> {
  const folder = getCompileCacheDir();
  if (folder === undefined) return await make(logger, failureConverterPath);
  const file = join(folder, `workflows-${await sourceDigest(failureConverterPath ?? "")}.js`);
  const kept = await readFile(file, "utf8").catch(() => undefined);
  if (kept !== undefined) return { code: kept };
  const made = await make(logger, failureConverterPath);
  await keep(file, made.code);
  return made;
}

function make(logger: Logger, failureConverterPath: string | undefined): Promise<WorkflowBundle> {
  const workflowsPath = join(PROJECT, "workflows/index.ts");
  const converter = failureConverterPath === undefined ? {} : { failureConverterPath };
  return bundleWorkflowCode({ workflowsPath, logger, ...converter });
}

/** Whole or not at all. A folder that cannot be written to keeps nothing. */
async function keep(file: string, code: string): Promise<void> {
  const draft = `${file}.${randomUUID()}`;
  try {
    await writeFile(draft, code, { mode: 0o600 });
    await rename(draft, file);
  } catch {
    // The next process makes its own.
  }
}

/** Another one for any change of what is bundled, or of who bundles it. */
async function sourceDigest(failureConverterPath: string): Promise<string> {
  const hash = createHash("sha256").update(`${process.version} ${PROJECT} ${failureConverterPath}`);
  for (const source of SOURCES) {
    const entries = await readdir(join(PROJECT, source), { recursive: true });
    for (const entry of entries.filter((name) => name.endsWith(".ts")).toSorted())
      hash.update(`\0${source}/${entry}\0`).update(await readFile(join(PROJECT, source, entry)));
  }
  return hash.update(await readFile(join(PROJECT, VERSIONS))).digest("hex");
}
