/** `foreshift doctor`: what is found, what is missing, what to do. */
import type { Command } from "commander";
import { connection } from "../setup/connection.ts";
import { type Check, examine } from "../setup/examine.ts";
import { examineIdentities } from "./examine-identities.ts";

const UNHEALTHY_EXIT_CODE = 69;
const MARKS = { ok: "ok", missing: "MISSING", warning: "note" } as const;

export function register(program: Command): void {
  program
    .command("doctor")
    .description("say what is found, what is missing and what to do; beside a lab, whether its identities will last")
    .option("--json", "print JSON")
    .action(async (_, command: Command) => {
      const found = await connection().catch(() => undefined);
      // Without processes there is nobody to be somebody.
      const checks = [...(await examine()), ...(found === undefined ? [] : await examineIdentities(found))];
      const healthy = checks.every(({ state }) => state !== "missing");
      if (command.optsWithGlobals().json === true) console.log(JSON.stringify({ healthy, checks }, undefined, 2));
      else print(checks, healthy);
      if (!healthy) process.exitCode = UNHEALTHY_EXIT_CODE;
    });
}

function print(checks: readonly Check[], healthy: boolean): void {
  const rows = checks.map(({ state, name, source, version, where }) => [MARKS[state], name, source, version ?? "", where]);
  const header = ["", "PART", "FROM", "VERSION", "WHERE"];
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  for (const row of [header, ...rows])
    console.log(
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    );
  const remedies = new Set(checks.flatMap(({ remedy }) => (remedy === undefined ? [] : [remedy])));
  if (remedies.size > 0) console.log(`\nWhat to do:\n${[...remedies].map((remedy) => `  ${remedy}`).join("\n")}`);
  console.log(healthy ? "\nEverything needed is here." : "\nSomething needed is missing.");
}
