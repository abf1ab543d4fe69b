/** Numbers as a person reads them. */

/** `1 ghost`, `3 ghosts`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
