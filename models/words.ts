/** Numbers as a person reads them. */

/** `1 ghost`, `3 ghosts`, `2 addresses`. */
export function counted(count: number, noun: string): string {
  const ending = noun.endsWith("s") ? "es" : "s";
  return `${count} ${noun}${count === 1 ? "" : ending}`;
}
