/**
 * What an endpoint's instance of EC2 runs: learns who it is and what it is for, makes its links, and becomes the agent. The address of the
 * metadata service may be given as the only argument.
 */
import { join } from "node:path";
import { pino } from "pino";
import { InstanceMetadata, METADATA_URL } from "../drivers/aws/instance-metadata.ts";
import { writePrivately } from "../drivers/private-file.ts";
import { runCommand } from "../drivers/run-command.ts";
import { CLOUD_LIMITS } from "../models/limits-cloud.ts";
import { instanceStart } from "./agent/instance-config.ts";
import { endUnstarted } from "./run-worker.ts";

const [url = METADATA_URL] = process.argv.slice(2);
process.argv[2] = await prepared(url).catch((thrown: unknown) =>
  endUnstarted(pino({ name: "instance" }, pino.destination(2)), thrown),
);
await import("./agent.ts");

/** The file with the agent's configuration. */
async function prepared(metadataUrl: string): Promise<string> {
  const { config, files, script } = await instanceStart(new InstanceMetadata(metadataUrl), metadataUrl);
  const file = join(config.stateDir, "agent.json");
  for (const { path, content } of files) await writePrivately(path, content);
  if (script !== "") await runCommand("sh", ["-euc", script], { timeoutMs: CLOUD_LIMITS.prepareTimeoutMs });
  await writePrivately(file, JSON.stringify(config));
  return file;
}
