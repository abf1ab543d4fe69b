/** How drivers that work in the background say what happened: one event name, fields without secrets. */
export type Note = (level: "info" | "warn", fields: { readonly event: string } & Readonly<Record<string, unknown>>) => void;
