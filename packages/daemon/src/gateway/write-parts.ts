import { kept } from "./direct-reads.ts";

/** Bytes up to which everything goes as one string: Node writes one of 16 KiB off its stack, without memory for it. */
const JOIN_BYTES_MAX = 16 * 1024;

interface Sink {
  write(data: string, encoding: "latin1"): boolean;
  write(data: Buffer): boolean;
  cork(): void;
  uncork(): void;
}

/**
 * Writes a prefix and stretches of a body, in chunked framing if asked, in as few system calls as
 * possible. False asks to wait for `drain`.
 */
export function writeParts(
  stream: Sink,
  prefix: string,
  parts: readonly Buffer[],
  how: { isChunked: boolean; isDone: boolean },
): boolean {
  let size = 0;
  for (const part of parts) size += part.length;
  const hasChunk = how.isChunked && size > 0;
  const before = hasChunk ? `${prefix}${size.toString(16)}\r\n` : prefix;
  const lastChunk = how.isChunked && how.isDone ? "0\r\n\r\n" : "";
  const after = hasChunk ? `\r\n${lastChunk}` : lastChunk;
  if (size === 0)
    return before === "" && after === "" ? true : stream.write(before + after, "latin1");
  const total = before.length + size + after.length;
  if (total <= JOIN_BYTES_MAX) return stream.write(joined(before, parts, after), "latin1");
  return writeCorked(stream, before, parts, after);
}

function writeCorked(
  stream: Sink,
  before: string,
  parts: readonly Buffer[],
  after: string,
): boolean {
  let isFlowing = true;
  stream.cork();
  if (before !== "") stream.write(before, "latin1");
  for (const part of parts) isFlowing = stream.write(kept(part));
  if (after !== "") isFlowing = stream.write(after, "latin1");
  stream.uncork();
  return isFlowing;
}

function joined(before: string, parts: readonly Buffer[], after: string): string {
  let text = before;
  for (const part of parts) text += part.toString("latin1");
  return text + after;
}
