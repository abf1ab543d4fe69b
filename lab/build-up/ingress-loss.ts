/** Random loss of what reaches a machine: from the balancer's side and from the servers' side, by nftables. */
import { runScript } from "../namespace.ts";

const PER_MILLION = 1_000_000;

/** Share 0..1. Replaces what was set before in one transaction. */
export async function setIngressLoss(host: string, share: number): Promise<void> {
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
  await runScript(`nft -f - <<'END'\n${table}\nEND`, host);
}

export async function clearIngressLoss(host: string): Promise<void> {
  await runScript("nft delete table netdev foreshift_fault 2>/dev/null || true", host);
}

/** Loss that changes in steps; each is set before the next is asked for. */
export class ChangingLoss {
  readonly #host: string;
  readonly #timer: NodeJS.Timeout;
  #change: Promise<unknown> = Promise.resolve();
  #changing = false;
  #stopped = false;

  /** `shareAt` is asked every `stepMs`; undefined leaves the loss as it is. */
  constructor(
    host: string,
    options: { stepMs: number; shareAt: () => number | undefined; onFailure: (thrown: unknown) => void },
  ) {
    this.#host = host;
    this.#timer = setInterval(() => {
      const share = options.shareAt();
      if (share === undefined || this.#changing) return;
      this.#changing = true;
      this.#change = setIngressLoss(host, share)
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
    await clearIngressLoss(this.#host);
  }
}
