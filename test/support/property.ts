/** Property tests with a seed that is printed, and taken again from FORESHIFT_SEED. */
import type { TestContext } from "node:test";
import fc from "fast-check";

/** Says in the test's output which seed it ran with, passed or not. */
export function holds<T>(context: TestContext, property: fc.IProperty<T>, runs: number): void {
  fc.assert(property, parameters(context, runs));
}

/** The same for a property that waits. */
export async function holdsAsync<T>(context: TestContext, property: fc.IAsyncProperty<T>, runs: number): Promise<void> {
  await fc.assert(property, parameters(context, runs));
}

function parameters(context: TestContext, runs: number) {
  const given = Number(process.env["FORESHIFT_SEED"]);
  const seed = Number.isSafeInteger(given) && given !== 0 ? given : Math.floor(Math.random() * 0x7fffffff);
  context.diagnostic(`seed ${seed}, ${runs} runs; again with FORESHIFT_SEED=${seed}`);
  return { numRuns: runs, seed, interruptAfterTimeLimit: 120_000, markInterruptAsFailure: true };
}
