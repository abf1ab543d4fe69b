/**
 * The watch of a main loop: one long activity that returns when there is something to decide, and that is cut short when the state it
 * watches with is another one.
 */
import { CancellationScope, isCancellation } from "@temporalio/workflow";

export class Watch<I, O> {
  readonly #look: (input: I) => Promise<O>;
  #end: (() => void) | undefined;
  #changes = 0;

  constructor(look: (input: I) => Promise<O>) {
    this.#look = look;
  }

  /** Grows with each change that a message makes: an observation from before one may lack what the state takes for granted. */
  get changes(): number {
    return this.#changes;
  }

  /** The state has changed: a watch under way is of no use. */
  startAnew(): void {
    this.#changes += 1;
    this.#end?.();
  }

  /** Undefined when it was cut short. */
  async next(input: I): Promise<O | undefined> {
    const scope = new CancellationScope();
    this.#end = () => scope.cancel();
    try {
      return await scope.run(() => this.#look(input));
    } catch (thrown) {
      if (isCancellation(thrown) && !CancellationScope.current().consideredCancelled) return undefined;
      throw thrown;
    } finally {
      this.#end = undefined;
    }
  }
}
