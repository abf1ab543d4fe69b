/** Whether a policy in deploy/aws allows what was called, and no more than that. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { AwsCall } from "./relay.ts";

const FOLDER = join(import.meta.dirname, "..", "..", "..", "deploy", "aws");

interface Policy {
  readonly Statement: readonly { readonly Effect: string; readonly Action: string | readonly string[] }[];
}

/** `besides`: what is asked for on the way, and is no call of its own. */
export async function assertAllowsExactly(file: string, calls: readonly AwsCall[], besides: readonly string[]): Promise<void> {
  const policy = JSON.parse(await readFile(join(FOLDER, file), "utf8")) as Policy;
  const allowed = policy.Statement.filter(({ Effect }) => Effect === "Allow").flatMap(({ Action }) => Action);
  assert.ok(
    allowed.every((action) => !action.includes("*")),
    "each action by its name",
  );
  const needed = new Set([...calls.map(({ action }) => action), ...besides]);
  assert.deepEqual([...new Set(allowed)].toSorted(), [...needed].toSorted());
}
