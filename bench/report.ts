import { BUDGETS } from "./budgets.ts";
import type { Row } from "./rows.ts";

const HEADINGS = [
  "row",
  "unit",
  "p50",
  "p99",
  "n",
  "peer",
  "peer p50",
  "ratio",
  "budget",
  "",
] as const;

/** Whether the row keeps its budget; null for a row that has none. */
export function verdict(row: Row): boolean | null {
  const budget = BUDGETS[row.name];
  if (budget === undefined) return null;
  const failed = row.notes.some((note) => / failed: /.test(note));
  return budget.met(row) && !failed;
}

function cells(row: Row): string[] {
  const kept = verdict(row);
  return [
    row.name,
    row.unit,
    String(row.p50),
    String(row.p99),
    String(row.sampleCount),
    row.peer ?? "–",
    row.peerP50 === null ? "–" : String(row.peerP50),
    row.ratio === null ? "–" : String(row.ratio),
    BUDGETS[row.name]?.text ?? "",
    kept === null ? "" : kept ? "pass" : "FAIL",
  ];
}

/** The table for people. */
export function table(rows: readonly Row[]): string {
  const lines = [[...HEADINGS], ...rows.map(cells)];
  const widths = HEADINGS.map((_, column) =>
    Math.max(...lines.map((line) => line[column]?.length ?? 0)),
  );
  const text = lines.map((line) =>
    line
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
  const notes = rows.flatMap((row) => row.notes.map((note) => `  ${row.name}: ${note}`));
  return [...text, ...(notes.length > 0 ? ["", ...notes] : [])].join("\n");
}
