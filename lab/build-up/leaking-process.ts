/**
 * A process that leaks: takes real memory at a steady rate from its start on, and gives none back. Its argument is the configuration.
 */
import type { Leak } from "./memory-leak.ts";

const STEP_MS = 100;

const { untilBytes, buildUpMs, limitBytes } = JSON.parse(process.argv[2] ?? "{}") as Leak;
const held: Buffer[] = [];
const firstBytes = process.memoryUsage.rss();
const startedAtMs = performance.now();

setInterval(() => {
  const progress = (performance.now() - startedAtMs) / buildUpMs;
  const wanted = Math.min(limitBytes, firstBytes + (untilBytes - firstBytes) * progress);
  const missing = Math.floor(wanted - process.memoryUsage.rss());
  // Filled, because the kernel gives no memory for pages that nobody wrote to.
  if (missing > 0) held.push(Buffer.alloc(missing, 1));
}, STEP_MS);
