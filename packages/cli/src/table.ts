import { visible } from "./visible.ts";

export interface TableColumn {
  readonly title: string;
  /** Gives way when the terminal is too narrow */
  readonly shrink?: boolean;
  readonly align?: "right";
}

const GAP = "  ";
const COLUMN_WIDTH_MIN = 6;

/** The lines of a table, head first; cut to `width` characters where one is given. */
export function renderTable(
  columns: readonly TableColumn[],
  rows: readonly (readonly string[])[],
  width?: number,
): string[] {
  const cells = [
    columns.map((column) => column.title),
    ...rows.map((row) => row.map((cell) => visible(cell))),
  ];
  const widths = columns.map((_, index) =>
    Math.max(...cells.map((row) => row[index]?.length ?? 0)),
  );
  if (width !== undefined) shrink(columns, widths, width);
  return cells.map((row) => {
    const line = row
      .map((cell, index) => fit(cell, widths[index] ?? 0, columns[index]?.align))
      .join(GAP);
    return width === undefined ? line.trimEnd() : line.trimEnd().slice(0, width);
  });
}

function shrink(columns: readonly TableColumn[], widths: number[], width: number): void {
  const flexible = columns.flatMap((column, index) => (column.shrink === true ? [index] : []));
  const total = () =>
    widths.reduce((sum, each) => sum + each, 0) + GAP.length * (widths.length - 1);
  let excess = total() - width;
  while (excess > 0) {
    const widest = flexible.toSorted((a, b) => (widths[b] ?? 0) - (widths[a] ?? 0))[0];
    if (widest === undefined || (widths[widest] ?? 0) <= COLUMN_WIDTH_MIN) return;
    widths[widest] = (widths[widest] ?? 0) - 1;
    excess -= 1;
  }
}

function fit(text: string, width: number, align: "right" | undefined): string {
  const cut = text.length > width ? `${text.slice(0, Math.max(0, width - 1))}…` : text;
  return align === "right" ? cut.padStart(width) : cut.padEnd(width);
}
