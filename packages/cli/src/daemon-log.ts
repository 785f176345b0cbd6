import { visible } from "./visible.ts";

type Paint = (style: "bold" | "dim" | "red" | "green" | "yellow" | "cyan", text: string) => string;

const LEVELS = new Map([
  [10, "trace"],
  [20, "debug"],
  [30, "info"],
  [40, "warn"],
  [50, "error"],
  [60, "fatal"],
]);
const LEVEL_STYLES = new Map([
  ["warn", "yellow"],
  ["error", "red"],
  ["fatal", "red"],
] as const);
const TIME_START = 11;
const TIME_END = 19;

/** One line of the daemon's log for people; what is not its JSON is shown as it is. */
export function formatLogLine(line: string, paint: Paint): string {
  const record = parseRecord(line);
  if (record === undefined) return visible(line);
  const { time, level, event, outcome, durationMs, ...fields } = record;
  const name = typeof level === "number" ? (LEVELS.get(level) ?? String(level)) : plain(level);
  const style = LEVEL_STYLES.get(name as "warn" | "error" | "fatal");
  const parts = [
    paint("dim", plain(time).slice(TIME_START, TIME_END)),
    style === undefined ? name.padEnd(5) : paint(style, name.padEnd(5)),
    visible(plain(event)),
  ];
  if (outcome !== undefined) parts.push(visible(plain(outcome)));
  if (typeof durationMs === "number") parts.push(`${durationMs.toFixed(1)} ms`);
  for (const [key, value] of Object.entries(fields))
    parts.push(paint("dim", `${visible(key)}=`) + shown(value));
  return parts.join(" ");
}

function shown(value: unknown): string {
  return visible(typeof value === "string" ? value : JSON.stringify(value));
}

function plain(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function parseRecord(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith("{")) return undefined;
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    // A line cut short by a full disk or a kill: shown as it stands.
    return undefined;
  }
}
