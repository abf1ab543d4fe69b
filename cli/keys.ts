/** `foreshift keys rotate|revoke|status`: new versions of keys without a session dropped, and clients that are out at once. */
import { type Command, InvalidArgumentError } from "commander";
import type { Temporal } from "../drivers/temporal-client.ts";
import { ForeshiftError } from "../models/errors.ts";
import { KEY_KINDS, type KeyKind, type KeysRotated, type RotatedAll, type RotationStatus } from "../models/keys.ts";
import { assertSwarm, me, table, withTemporal } from "./control.ts";
import { tellOfRun } from "./follow-run.ts";
import { kindOf } from "./key-kind.ts";
import { print, wantsJson } from "./output.ts";

const FAILED_EXIT_CODE = 1;

interface RotateOptions {
  readonly swarm?: string;
  readonly kind?: KeyKind;
  readonly all?: boolean;
  readonly reason?: string;
  readonly wait?: boolean;
}

export function register(program: Command): void {
  const keys = program.command("keys").description("rotate keys, revoke an endpoint or a client, see how far it is");
  keys
    .command("rotate")
    .description(
      "give every client, every data key, or the swarm itself a further key; the old one is destroyed once it is out of use",
    )
    .option("-s, --swarm <name>", "the swarm whose keys they are; the transit key is everybody's and needs none")
    .option("-k, --kind <kind>", `which keys: ${KEY_KINDS.join(", ")}`, kindOf)
    .option("-a, --all", "every kind, one after the other, in one run; wants a reason")
    .option("-r, --reason <text>", "why, for the audit trail")
    .option("-w, --wait", "show its progress until it is done; exit code 1 when it was undone or failed")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      `
Sessions go on: WireGuard uses a preshared key in handshakes only, and with another static key of the swarm a client has a way to the old
one and to the new one at once. Batches begin with one client; one that fails by its new key is put back, and the rotation ends there. For
clients that cannot be reached a rotation of the static key waits as long as keys.static.graceMs says, and then names them.`,
    )
    .action(rotate);
  keys
    .command("revoke")
    .description("take an endpoint or a client out for good, within two seconds; or a certificate out of use")
    .requiredOption("-s, --swarm <name>", "the swarm it belongs to")
    .option("-c, --client <name...>", "its public key, or an address inside the tunnel; its key cannot be registered again")
    .option("-e, --endpoint <name>", "loses its sessions to its shadows, is heard no more, and its machine ends")
    .option("--serial <serial>", "of a process's or an endpoint's certificate, hexadecimal", serialOf)
    .requiredOption("-r, --reason <text>", "why, for the audit trail")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      `
An endpoint's machine holds the swarm's static key and its clients' preshared keys. Whoever may have copied them passes for the swarm until
they are rotated: do that next.`,
    )
    .action(revoke);
  keys
    .command("status")
    .description("the rotation of each kind that runs, or the last one")
    .requiredOption("-s, --swarm <name>", "the swarm whose keys they are")
    .option("--json", "print JSON")
    .action(status);
}

async function rotate(options: RotateOptions, command: Command): Promise<void> {
  const begin = beginningOf(options);
  await withTemporal(async (temporal) => {
    const { workflowId, runId } = await begin(temporal);
    if (options.wait !== true) {
      const ofWhich = options.swarm === undefined ? "" : ` --swarm ${options.swarm}`;
      const told = `Begun: ${workflowId}. \`foreshift keys status${ofWhich}\` says how far it is.`;
      return print(command, { workflowId, runId }, () => told);
    }
    const tell = (line: string) => {
      if (!wantsJson(command)) console.error(line);
    };
    const rotated = (await tellOfRun(temporal, workflowId, runId, tell)) as KeysRotated | RotatedAll;
    print(command, rotated, ({ text }) => text);
    if (rotated.outcome !== "rotated") process.exitCode = FAILED_EXIT_CODE;
  });
}

type Begin = (temporal: Temporal) => Promise<{ workflowId: string; runId: string }>;

/** INVALID_FIELD when the options do not say what to rotate. */
function beginningOf({ all, kind, reason, swarm }: RotateOptions): Begin {
  const by = me();
  const begin = async (temporal: Temporal, name: string, ask: () => ReturnType<Begin>) => {
    await assertSwarm(temporal, name);
    return await ask();
  };
  const ofSwarm = () => swarm ?? refuse("--swarm", "nothing", "say whose keys; the transit key alone is everybody's");
  if (all === true) {
    if (kind !== undefined) refuse("--kind", kind, "it goes without --all");
    const why = reason ?? refuse("--reason", "nothing", "say why every key is rotated; it is kept in the audit trail");
    const name = ofSwarm();
    const request = { swarm: name, kinds: KEY_KINDS, by, reason: why, waits: true };
    return (temporal) => begin(temporal, name, () => temporal.rotateAll(request));
  }
  const one = kind ?? refuse("--kind", "nothing", `expected one of ${KEY_KINDS.join(", ")}, or --all`);
  const request = { kind: one, by, reason: reason ?? "asked for by hand" };
  if (one === "transit") return (temporal) => temporal.rotateKeys({ ...request, swarm: swarm ?? "" });
  const name = ofSwarm();
  return (temporal) => begin(temporal, name, () => temporal.rotateKeys({ ...request, swarm: name }));
}

function refuse(field: string, value: string, detail: string): never {
  throw new ForeshiftError("INVALID_FIELD", { field, value, detail });
}

interface RevokeOptions {
  readonly swarm: string;
  readonly client?: readonly string[];
  readonly endpoint?: string;
  readonly serial?: string;
  readonly reason: string;
}

async function revoke({ client, endpoint, reason, serial, swarm }: RevokeOptions, command: Command): Promise<void> {
  const named = [client, endpoint, serial].filter((one) => one !== undefined).length;
  if (named !== 1)
    refuse("--endpoint", named === 0 ? "nothing" : "more than one", "expected it, --client or --serial, one of the three");
  if (endpoint !== undefined) {
    const done = await withTemporal((temporal) => temporal.revokeEndpoint({ swarm, endpoint, reason, by: me() }));
    return print(command, done, ({ text }) => `${text}\n${keysItHeld(swarm, endpoint)}`);
  }
  if (serial !== undefined) {
    const done = await withTemporal((temporal) => temporal.revokeCertificate({ swarm, serial, reason, by: me() }));
    return print(command, done, ({ text }) => text);
  }
  const request = { swarm, clients: client ?? [], reason, by: me() };
  const revoked = await withTemporal((temporal) => temporal.revokeClients(request));
  const whenOut = (outAfterMs: number | undefined) =>
    outAfterMs === undefined ? "could not be asked" : `out after ${Math.ceil(outAfterMs)} ms`;
  print(command, revoked, ({ endpoints, text }) =>
    [text, table(endpoints.map(({ endpoint, outAfterMs }) => [`  ${endpoint}`, whenOut(outAfterMs)]))].join("\n"),
  );
}

/** What a revocation cannot take back: keys that its machine had. */
function keysItHeld(swarm: string, endpoint: string): string {
  const command = `foreshift keys rotate --swarm ${swarm} --all --reason "${endpoint} was revoked"`;
  return `Its machine held the swarm's static key and the clients' preshared keys. Unless you are sure that nobody copied them, rotate them now:\n  ${command}`;
}

async function status({ swarm }: { swarm: string }, command: Command): Promise<void> {
  const found = await withTemporal(async (temporal) => {
    await assertSwarm(temporal, swarm);
    const all = await Promise.all(KEY_KINDS.map((kind) => temporal.rotation(swarm, kind)));
    return all.flatMap((one) => one ?? []);
  });
  print(command, found, statusAsText);
}

function statusAsText(rotations: readonly RotationStatus[]): string {
  if (rotations.length === 0) return "No keys were rotated yet, as far as Temporal remembers.";
  const rows = rotations.map(({ by, done, kind, phase, reason, skipped, startedAtMs, total }) => [
    kind,
    phase,
    `${done} of ${total}`,
    skipped === 0 ? "" : `${skipped} left out`,
    new Date(startedAtMs).toISOString().slice(0, 19),
    by,
    reason,
  ]);
  const lines = rotations.flatMap(({ text }) => (text === "" ? [] : [text]));
  return [table([["KIND", "PHASE", "DONE", "", "BEGUN (UTC)", "BY", "REASON"], ...rows]), ...lines].join("\n");
}

function serialOf(text: string): string {
  const digits = text.replaceAll(":", "").toUpperCase();
  if (!/^[0-9A-F]{2,40}$/.test(digits)) throw new InvalidArgumentError("Expected hexadecimal digits, with or without colons.");
  return digits;
}
