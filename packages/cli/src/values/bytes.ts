import { UsageError } from "../failure.ts";

const KIB = 1024;
const UNITS = new Map([
  ["", 1],
  ["k", KIB],
  ["m", KIB ** 2],
  ["g", KIB ** 3],
  ["t", KIB ** 4],
]);
const SIZE = /^([0-9]{1,16}(?:\.[0-9]{1,6})?)([kmgt]?)(?:i?b)?$/i;

/** Bytes in `512m`, `1.5g`, `64KiB` or `1048576`; the units are binary whatever their spelling. */
export function parseBytes(text: string): number {
  const match = SIZE.exec(text);
  const factor = UNITS.get(match?.[2]?.toLowerCase() ?? "");
  const bytes =
    match === null || factor === undefined ? Number.NaN : Math.round(Number(match[1]) * factor);
  if (!Number.isSafeInteger(bytes)) {
    throw new UsageError(`"${text}" is not a size`, "Write it as 512m, 1.5g or a number of bytes.");
  }
  return bytes;
}

/** The same, or null for `none`. */
export function parseBytesOrNone(text: string): number | null {
  return text === "none" ? null : parseBytes(text);
}

/** Bytes for people, such as `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  const names = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let index = 0;
  while (value >= KIB && index < names.length - 1) {
    value /= KIB;
    index += 1;
  }
  const digits = index === 0 || value >= 100 || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits)} ${names[index] ?? ""}`;
}
