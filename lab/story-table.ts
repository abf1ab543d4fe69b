/** The closing table of the story, as text. */
import type { Chapter, StoryResult } from "./story.ts";

const COLUMNS: readonly { readonly title: string; readonly of: (chapter: Chapter) => string }[] = [
  { title: "", of: ({ title, endpoint }) => (endpoint === undefined ? title : `${title} of ${endpoint}`) },
  { title: "sessions moved", of: ({ sessionsMoved }) => String(sessionsMoved) },
  { title: "packets sent", of: ({ packetsSent }) => String(packetsSent) },
  { title: "lost", of: ({ packetsLost }) => String(packetsLost) },
  { title: "duplicated", of: ({ packetsDuplicated }) => String(packetsDuplicated) },
  { title: "longest gap", of: ({ longestGapMs }) => milliseconds(longestGapMs) },
  { title: "TCP broken", of: ({ tcpBroken }) => String(tcpBroken) },
  { title: "detected", of: ({ detectMs }) => milliseconds(detectMs) },
  { title: "recovered", of: ({ recoverMs }) => milliseconds(recoverMs) },
  { title: "ahead of failure", of: ({ aheadMs }) => milliseconds(aheadMs) },
];

/** Lines of the table, of the promises, and of how to read every step. */
export function storyTable(result: StoryResult): readonly string[] {
  const rows = [COLUMNS.map(({ title }) => title), ...result.chapters.map((chapter) => COLUMNS.map(({ of }) => of(chapter)))];
  const widths = COLUMNS.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) => row.map((cell, column) => pad(cell, widths[column] ?? 0, column)).join("  "));
  const promises = result.promises.map(({ promise, held, figure }) => `${held ? "held  " : "BROKEN"}  ${promise} (${figure})`);
  return [...lines, "", ...promises, "", "Every step, run by run: `npx foreshift ui` prints the way in."];
}

function pad(cell: string, width: number, column: number): string {
  return column === 0 ? cell.padEnd(width) : cell.padStart(width);
}

function milliseconds(value: number | undefined): string {
  return value === undefined ? "" : `${Math.round(value)} ms`;
}
