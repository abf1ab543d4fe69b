/**
 * Limits of virtual machines: how their image is built. Part of models/limits.ts.
 */
export const MACHINE_LIMITS = {
  /** Building the image. */
  packageQueryTimeoutMs: 30_000,
  packageDownloadTimeoutMs: 10 * 60_000,
  packTimeoutMs: 10 * 60_000,
  imagesKeptMax: 3,
} as const;
