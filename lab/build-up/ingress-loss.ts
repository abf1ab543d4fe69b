/** Random loss of what reaches a machine: from the balancer's side and from the servers' side, by nftables. */
import type { RunInside } from "./course.ts";

const PER_MILLION = 1_000_000;

/** Share 0..1. Replaces what was set before in one transaction. */
export async function setIngressLoss(runInside: RunInside, share: number): Promise<void> {
  const chain = (device: string) => `chain ${device} {
    type filter hook ingress device "${device}" priority filter; policy accept;
    numgen random mod ${PER_MILLION} < ${Math.round(share * PER_MILLION)} drop
  }`;
  const table = `table netdev foreshift_fault {
}
delete table netdev foreshift_fault
table netdev foreshift_fault {
  ${chain("lb0")}
  ${chain("in0")}
}`;
  await runInside(`nft -f - <<'END'\n${table}\nEND`);
}

export async function clearIngressLoss(runInside: RunInside): Promise<void> {
  await runInside("nft delete table netdev foreshift_fault 2>/dev/null || true");
}

/** Loss that changes in steps; each is set before the next is asked for. */
export class ChangingLoss {
  readonly #runInside: RunInside;
  readonly #timer: NodeJS.Timeout;
  #change: Promise<unknown> = Promise.resolve();
  #changing = false;
  #stopped = false;

  /** `shareAt` is asked every `stepMs`; undefined leaves the loss as it is. */
  constructor(
    runInside: RunInside,
    options: { stepMs: number; shareAt: () => number | undefined; onFailure: (thrown: unknown) => void },
  ) {
    this.#runInside = runInside;
    this.#timer = setInterval(() => {
      const share = options.shareAt();
      if (share === undefined || this.#changing) return;
      this.#changing = true;
      this.#change = setIngressLoss(runInside, share)
        .catch((thrown: unknown) => (this.#stopped ? undefined : options.onFailure(thrown)))
        .finally(() => {
          this.#changing = false;
        });
    }, options.stepMs);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    await this.#change;
    await clearIngressLoss(this.#runInside);
  }
}
