import { CR, HEX, LF, VALUE } from "./characters.ts";
import { type Framing, HEAD_BYTES_MAX, malformed, parseFields } from "./fields.ts";

/** Hexadecimal digits of a chunk size: 12 stay below 2^53. */
const CHUNK_SIZE_DIGITS_MAX = 12;
/** Bytes that all chunk extensions of one body may take; nobody uses them, attackers do. */
const CHUNK_EXTENSION_BYTES_MAX = 4096;
/** Bytes of a trailer section. */
const TRAILER_BYTES_MAX = 8 * 1024;

/** Finds the end of one body in a stream of bytes and takes the framing off. */
export interface BodyDecoder {
  /** Whether the whole body has been seen */
  readonly isDone: boolean;
  /**
   * Takes `chunk[from…]`, appends the body's bytes to `out` (views, not copies) and returns the
   * index of the first byte that is not part of the body, or the chunk's length.
   *
   * @throws HTTP_MALFORMED
   */
  push(chunk: Buffer, from: number, out: Buffer[]): number;
}

/** A decoder for one body. */
export function createBodyDecoder(framing: Framing): BodyDecoder {
  switch (framing.kind) {
    case "fixed":
      return new FixedDecoder(framing.bytes);
    case "chunked":
      return new ChunkedDecoder();
    case "close":
      return new FixedDecoder(Number.POSITIVE_INFINITY);
    case "none":
      return NOTHING;
  }
}

class FixedDecoder implements BodyDecoder {
  #remaining: number;

  constructor(bytes: number) {
    this.#remaining = bytes;
  }

  get isDone(): boolean {
    return this.#remaining === 0;
  }

  push(chunk: Buffer, from: number, out: Buffer[]): number {
    const end = Math.min(chunk.length, from + this.#remaining);
    if (end > from) {
      out.push(from === 0 && end === chunk.length ? chunk : chunk.subarray(from, end));
      this.#remaining -= end - from;
    }
    return end;
  }
}

/** Takes nothing, so that one serves every message without a body. */
const NOTHING = new FixedDecoder(0);

const SIZE = 0;
const EXTENSION = 1;
const SIZE_LF = 2;
const DATA = 3;
const DATA_CR = 4;
const DATA_LF = 5;
const TRAILER = 6;
const DONE = 7;

class ChunkedDecoder implements BodyDecoder {
  #state = SIZE;
  #size = 0;
  #digits = 0;
  #extensionBytes = 0;
  #trailer = "";

  get isDone(): boolean {
    return this.#state === DONE;
  }

  push(chunk: Buffer, from: number, out: Buffer[]): number {
    let at = from;
    while (at < chunk.length && this.#state !== DONE) {
      if (this.#state === DATA) {
        const end = Math.min(chunk.length, at + this.#size);
        out.push(chunk.subarray(at, end));
        this.#size -= end - at;
        at = end;
        if (this.#size === 0) this.#state = DATA_CR;
      } else if (this.#state === TRAILER) {
        at = this.#pushTrailer(chunk, at);
      } else {
        this.#step(chunk[at] ?? 0);
        at += 1;
      }
    }
    return at;
  }

  #step(byte: number): void {
    switch (this.#state) {
      case SIZE:
        this.#stepSize(byte);
        break;
      case EXTENSION:
        if (byte === CR) this.#state = SIZE_LF;
        else this.#countExtension(byte);
        break;
      case SIZE_LF:
        expectByte(byte, LF, "a chunk size line without CRLF");
        this.#state = this.#size === 0 ? TRAILER : DATA;
        break;
      case DATA_CR:
        expectByte(byte, CR, "chunk data longer than its size");
        this.#state = DATA_LF;
        break;
      default:
        expectByte(byte, LF, "chunk data without CRLF");
        this.#state = SIZE;
        this.#digits = 0;
        this.#size = 0;
    }
  }

  #stepSize(byte: number): void {
    const digit = HEX[byte] ?? 255;
    if (digit !== 255) {
      this.#digits += 1;
      if (this.#digits > CHUNK_SIZE_DIGITS_MAX) throw malformed("a chunk size out of range");
      this.#size = this.#size * 16 + digit;
      return;
    }
    if (this.#digits === 0) throw malformed("an invalid chunk size");
    if (byte === CR) this.#state = SIZE_LF;
    else if (byte === 59) this.#state = EXTENSION;
    else throw malformed("an invalid chunk size");
  }

  #countExtension(byte: number): void {
    this.#extensionBytes += 1;
    if (VALUE[byte] !== 1) throw malformed("a control character in a chunk extension");
    if (this.#extensionBytes > CHUNK_EXTENSION_BYTES_MAX)
      throw malformed("too many chunk extensions");
  }

  /** Trailers are checked like headers and dropped: merging them into a head is what RFC 9110 §6.5.1 warns of. */
  #pushTrailer(chunk: Buffer, from: number): number {
    const before = this.#trailer.length;
    const taken = chunk.toString("latin1", from, Math.min(chunk.length, from + HEAD_BYTES_MAX));
    const text = this.#trailer + taken;
    const end = text.startsWith("\r\n") ? 2 : endOfTrailer(text);
    if (end === -1) {
      if (text.length > TRAILER_BYTES_MAX) throw malformed("a trailer section that is too large");
      refuseEarly(text);
      this.#trailer = text;
      return from + taken.length;
    }
    if (end > TRAILER_BYTES_MAX) throw malformed("a trailer section that is too large");
    parseFields(text.slice(0, end - 2), 0);
    this.#trailer = "";
    this.#state = DONE;
    return from + end - before;
  }
}

function endOfTrailer(text: string): number {
  const found = text.indexOf("\r\n\r\n");
  return found === -1 ? -1 : found + 4;
}

/** A bare LF can never become valid, so waiting for more would only hold the connection. */
function refuseEarly(text: string): void {
  if (/(?:^|[^\r])\n/.test(text)) throw malformed("a bare LF in the trailers");
  if (/^\r[^\n]/.test(text)) throw malformed("a bare CR in the trailers");
}

function expectByte(byte: number, expected: number, what: string): void {
  if (byte !== expected) throw malformed(what);
}
