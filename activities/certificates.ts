/**
 * Steps of a rotation of certificates. Each process makes its own key and asks Vault itself; a step asks it to, and looks which certificate it
 * shows. Serials and names only.
 */
import type { CertificateHolder } from "../drivers/key-ports.ts";
import { ForeshiftError, messageOf } from "../models/errors.ts";
import type { CertificateChange, CertificatesSeen, HeldCertificates } from "../models/keys.ts";
import { KEY_LIMITS } from "../models/limits-keys.ts";
import { counted } from "../models/words.ts";
import { type ActivityDeps, asActivity, asStep, pause, type StepInput } from "./deps.ts";

export interface CertificateStep extends StepInput {
  readonly changes: readonly CertificateChange[];
}

export function certificateActivities(deps: ActivityDeps) {
  return {
    /** Names: the swarm's endpoints first, then the processes that all swarms share. */
    certificateHolders(): Promise<readonly string[]> {
      return asActivity(async () => (await holdersOf(deps)).map(({ name }) => name));
    },

    /** Which certificate each of them has; those that cannot be asked are named with why. */
    heldCertificates({ names }: { names: readonly string[] }): Promise<HeldCertificates> {
      return asActivity(async () => {
        const asked = await Promise.all(
          (await among(deps, names)).map((holder) =>
            holder.held().then(
              ({ serial }) => ({ name: holder.name, serial }),
              (thrown: unknown) => ({ name: holder.name, why: messageOf(thrown) }),
            ),
          ),
        );
        const held = asked.flatMap((one) => ("serial" in one ? [one] : []));
        return { held, unreached: asked.flatMap((one) => ("why" in one ? [one] : [])) };
      });
    },

    /** Each gets a further one, once: one that has another already is left as it is. */
    renewCertificates(input: StepInput & { held: HeldCertificates["held"] }): Promise<readonly CertificateChange[]> {
      return asStep(deps, input, "renew certificates", async () => {
        const holders = await among(
          deps,
          input.held.map(({ name }) => name),
        );
        const after = new Map(input.held.map(({ name, serial }) => [name, serial]));
        const changes = await Promise.all(
          holders.map(async (holder) => {
            const from = after.get(holder.name) ?? "";
            return { name: holder.name, from, to: await holder.renew(from) };
          }),
        );
        const text = `${counted(changes.length, "process")} renewed: ${changes.map(({ name }) => name).join(", ")}`;
        return { result: changes, text, details: { serials: changes.map(({ to }) => to) } };
      });
    },

    /** Waits until the new ones are shown, or used towards others, and the old ones are used nowhere any more. */
    awaitCertificates(input: { changes: readonly CertificateChange[]; timeoutMs: number }): Promise<CertificatesSeen> {
      return asActivity(async () => {
        const deadlineMs = Date.now() + input.timeoutMs;
        for (;;) {
          const seen = await lookAt(deps, input.changes);
          const isDone = seen.unseen.length === 0 && seen.lingering.length === 0;
          if (isDone || Date.now() >= deadlineMs) return seen;
          await pause(KEY_LIMITS.certificatePollMs);
        }
      });
    },

    revokeCertificates(input: CertificateStep): Promise<void> {
      return asStep(deps, input, "revoke replaced certificates", async () => {
        for (const { from } of input.changes) await deps.certificates.revoke(from);
        const text = `${counted(input.changes.length, "replaced certificate")} on the revocation list`;
        return { result: undefined, text, details: { serials: input.changes.map(({ from }) => from) } };
      });
    },
  };
}

/** NOT_READY while the balancer holds no state: who the endpoints are is not known then. */
async function holdersOf(deps: ActivityDeps): Promise<readonly CertificateHolder[]> {
  const desired = await deps.balancer.desired();
  const revoked = new Set(desired?.revoked ?? []);
  const members = (desired?.members ?? []).filter(({ endpoint }) => !revoked.has(endpoint));
  const { processes } = deps.holders;
  if (processes.length === 0) {
    const detail = "the control worker's configuration has no section identity: processes have no certificates";
    throw new ForeshiftError("INVALID_FIELD", { field: "kind", value: "certificates", detail });
  }
  const agents = members.map(({ endpoint, link }) => deps.holders.agent(link, endpoint));
  return [...agents.sort((a, b) => (a.name < b.name ? -1 : 1)), ...processes];
}

async function among(deps: ActivityDeps, names: readonly string[]): Promise<readonly CertificateHolder[]> {
  return (await holdersOf(deps)).filter(({ name }) => names.includes(name));
}

async function lookAt(deps: ActivityDeps, changes: readonly CertificateChange[]): Promise<CertificatesSeen> {
  const holders = await holdersOf(deps);
  const named = new Set(changes.map(({ name }) => name));
  const shared = new Set(deps.holders.processes.map(({ name }) => name));
  // Endpoints ask shared processes only; those ask everybody.
  const isShared = changes.some(({ name }) => shared.has(name));
  const asked = isShared ? holders : holders.filter(({ name }) => shared.has(name) || named.has(name));
  const held = await Promise.allSettled(asked.map((holder) => holder.held()));
  const used = new Set(held.flatMap((one) => (one.status === "fulfilled" ? one.value.peers : [])));
  const shown = await Promise.allSettled(
    holders.filter(({ name }) => named.has(name)).map(async (holder) => [holder.name, await holder.shown()] as const),
  );
  const serials = new Map(shown.flatMap((one) => (one.status === "fulfilled" ? [one.value] : [])));
  const isSeen = ({ name, to }: CertificateChange) => used.has(to) || serials.get(name) === to;
  return {
    unseen: changes.filter((change) => !isSeen(change)).map(({ name }) => name),
    lingering: changes.filter(({ from, to }) => from !== to && used.has(from)).map(({ name }) => name),
  };
}
