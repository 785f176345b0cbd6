/** Bytes up to which everything is copied into one write. */
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
  const [first] = parts;
  if (parts.length === 1 && first !== undefined && before === "" && after === "")
    return stream.write(first);
  const total = before.length + size + after.length;
  if (total <= JOIN_BYTES_MAX) return stream.write(join(before, parts, after, total));
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
  for (const part of parts) isFlowing = stream.write(part);
  if (after !== "") isFlowing = stream.write(after, "latin1");
  stream.uncork();
  return isFlowing;
}

function join(before: string, parts: readonly Buffer[], after: string, total: number): Buffer {
  const joined = Buffer.allocUnsafe(total);
  let at = joined.write(before, 0, "latin1");
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  joined.write(after, at, "latin1");
  return joined;
}
