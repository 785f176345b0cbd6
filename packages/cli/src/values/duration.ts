import { UsageError } from "../failure.ts";

const UNIT_MS = new Map([
  ["ms", 1],
  ["s", 1000],
  ["m", 60_000],
  ["h", 3_600_000],
  ["d", 86_400_000],
]);
const PART = /([0-9]{1,12}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)/g;
const WHOLE = /^(?:[0-9]{1,12}(?:\.[0-9]{1,3})?(?:ms|s|m|h|d)){1,5}$/;

/** Milliseconds in `35m`, `1h30m`, `500ms`. A bare number is refused: its unit would be a guess. */
export function parseDuration(text: string): number {
  if (!WHOLE.test(text)) {
    throw new UsageError(
      `"${text}" is not a duration`,
      "Write it with its unit: 30s, 35m, 1h30m, 2d.",
    );
  }
  let totalMs = 0;
  for (const [, amount, unit] of text.matchAll(PART))
    totalMs += Number(amount) * (UNIT_MS.get(unit ?? "") ?? 0);
  const rounded = Math.round(totalMs);
  if (!Number.isSafeInteger(rounded)) throw new UsageError(`"${text}" is too long a duration`);
  return rounded;
}

/** The same, or null for `never`. */
export function parseDurationOrNever(text: string): number | null {
  return text === "never" ? null : parseDuration(text);
}

/** A duration for people: its two largest units, such as `1h 30m`. */
export function formatDuration(durationMs: number): string {
  if (durationMs < 1000) return `${Math.round(durationMs)}ms`;
  const units = [...UNIT_MS].toReversed().filter(([unit]) => unit !== "ms");
  const parts: string[] = [];
  let leftMs = Math.round(durationMs / 1000) * 1000;
  for (const [unit, unitMs] of units) {
    const count = Math.floor(leftMs / unitMs);
    leftMs -= count * unitMs;
    if (count > 0) parts.push(`${count}${unit}`);
  }
  return parts.slice(0, 2).join(" ");
}
