/**
 * Frames of the guest protocol: `u32 payload length, u8 type, u8 flags (0), u16 0`, little endian,
 * then the payload. Requests and most answers hold fields: `u8 tag, u24 length, value`.
 * `native/guest/PROTOCOL.md` is the reference.
 */
import { BelljarError } from "@belljar/protocol";
import { LIMITS } from "../kernel/index.ts";

export const FRAME_HEADER_BYTES = 8;
const FIELD_HEADER_BYTES = 4;
const FIELD_BYTES_MAX = 0xff_ff_ff;
/** Data frames keep to LIMITS.guestFrameBytesMax; an answer of many fields may need more */
const ANSWER_BYTES_MAX = 2 * LIMITS.guestFrameBytesMax;

export const OP = {
  hello: 1,
  exec: 2,
  attach: 3,
  processes: 4,
  signal: 5,
  forget: 6,
  shutdown: 7,
  stat: 16,
  list: 17,
  read: 18,
  write: 19,
  mkdir: 20,
  move: 21,
  remove: 22,
  chmod: 23,
  chown: 24,
  xattrGet: 25,
  xattrSet: 26,
  xattrList: 27,
  xattrRemove: 28,
  watch: 29,
  port: 32,
  ports: 33,
  stats: 34,
} as const;

export const SEND = { stdin: 64, stdinEof: 65, resize: 66, signal: 67, data: 68, end: 69 } as const;

export const SAY = {
  ok: 128,
  error: 129,
  started: 130,
  stdout: 131,
  stderr: 132,
  exit: 133,
  entry: 134,
  data: 135,
  end: 136,
  event: 137,
} as const;

export const TAG = {
  arg: 1,
  env: 2,
  cwd: 3,
  user: 4,
  timeoutMs: 5,
  graceMs: 6,
  tag: 7,
  flags: 8,
  columns: 9,
  rows: 10,
  pid: 11,
  signal: 12,
  path: 13,
  to: 14,
  offset: 15,
  length: 16,
  mode: 17,
  owner: 18,
  group: 19,
  name: 20,
  value: 21,
  depth: 22,
  port: 23,
  family: 24,
  limit: 25,
  errno: 64,
  code: 65,
  message: 66,
  type: 67,
  size: 68,
  mtimeNs: 69,
  uid: 70,
  gid: 71,
  userName: 72,
  groupName: 73,
  target: 74,
  startedAtMs: 75,
  address: 76,
  command: 77,
  version: 78,
  kind: 79,
  from: 80,
  state: 81,
  exit: 82,
  count: 83,
  memoryTotal: 84,
  memoryAvailable: 85,
  rss: 86,
  cpuUs: 87,
  loadMilli: 88,
  diskTotal: 89,
  diskFree: 90,
  tmpTotal: 91,
  tmpFree: 92,
} as const;

const utf8 = new TextDecoder();

const malformed = (message: string): BelljarError =>
  new BelljarError("GUEST_PROTOCOL", `the guest sent ${message}`);

/** One frame, ready to send. */
export function encodeFrame(type: number, payload?: Uint8Array): Buffer {
  const length = payload?.byteLength ?? 0;
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + length);
  frame.writeUInt32LE(length, 0);
  frame.writeUInt32LE(type, 4);
  if (payload !== undefined) frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}

/** Cuts a byte stream into frames. What arrives is untrusted; at most one frame is ever held. */
export class FrameDecoder {
  readonly #payloadBytesMax: number;
  readonly #header = Buffer.alloc(FRAME_HEADER_BYTES);
  #headerBytes = 0;
  #payload: Buffer | undefined;
  #payloadBytes = 0;

  constructor(payloadBytesMax: number = ANSWER_BYTES_MAX) {
    this.#payloadBytesMax = payloadBytesMax;
  }

  /** Whether the bytes so far end between two frames. */
  get isAtBoundary(): boolean {
    return this.#headerBytes === 0;
  }

  /**
   * Calls `onFrame` for every frame that `chunk` completes. Payloads may share memory with `chunk`.
   * Throws GUEST_PROTOCOL for a header that is not one of ours, before anything is allocated for it.
   */
  push(chunk: Uint8Array, onFrame: (type: number, payload: Uint8Array) => void): void {
    let at = 0;
    while (at < chunk.byteLength) {
      if (this.#payload === undefined) {
        const used = this.#takeHeader(chunk, at);
        at += used;
        if (this.#headerBytes < FRAME_HEADER_BYTES) return;
        const length = this.#checkedLength();
        if (chunk.byteLength - at >= length) {
          this.#headerBytes = 0;
          onFrame(this.#header[4] ?? 0, chunk.subarray(at, at + length));
          at += length;
          continue;
        }
        this.#payload = Buffer.allocUnsafe(length);
        this.#payloadBytes = 0;
      }
      at += this.#takePayload(this.#payload, chunk, at);
      if (this.#payloadBytes < this.#payload.byteLength) return;
      const payload = this.#payload;
      this.#payload = undefined;
      this.#headerBytes = 0;
      onFrame(this.#header[4] ?? 0, payload);
    }
  }

  #takeHeader(chunk: Uint8Array, at: number): number {
    const count = Math.min(FRAME_HEADER_BYTES - this.#headerBytes, chunk.byteLength - at);
    this.#header.set(chunk.subarray(at, at + count), this.#headerBytes);
    this.#headerBytes += count;
    return count;
  }

  #takePayload(payload: Buffer, chunk: Uint8Array, at: number): number {
    const count = Math.min(payload.byteLength - this.#payloadBytes, chunk.byteLength - at);
    payload.set(chunk.subarray(at, at + count), this.#payloadBytes);
    this.#payloadBytes += count;
    return count;
  }

  #checkedLength(): number {
    const length = this.#header.readUInt32LE(0);
    const reserved = this.#header.readUInt32LE(4) >>> 8;
    if (reserved !== 0) throw malformed("a frame header with reserved bits set");
    if (length > this.#payloadBytesMax) throw malformed(`a frame of ${length} bytes`);
    return length;
  }
}

type FieldValue = string | Uint8Array | Buffer;

/** Collects the fields of one request and writes them with one allocation. */
export class FieldWriter {
  readonly #fields: { tag: number; value: FieldValue; bytes: number }[] = [];
  #bytes = 0;

  /** Bytes of the payload so far. */
  get byteLength(): number {
    return this.#bytes;
  }

  /** A string, or bytes. Undefined adds nothing. */
  put(tag: number, value: FieldValue | undefined): this {
    if (value === undefined) return this;
    const bytes = typeof value === "string" ? Buffer.byteLength(value) : value.byteLength;
    if (bytes > FIELD_BYTES_MAX)
      throw new BelljarError("EXEC_TOO_LARGE", `a value has ${bytes} bytes`);
    this.#fields.push({ tag, value, bytes });
    this.#bytes += FIELD_HEADER_BYTES + bytes;
    return this;
  }

  u32(tag: number, value: number | undefined): this {
    if (value === undefined) return this;
    const bytes = Buffer.allocUnsafe(4);
    bytes.writeUInt32LE(value >>> 0);
    return this.put(tag, bytes);
  }

  u64(tag: number, value: number | undefined): this {
    if (value === undefined) return this;
    const bytes = Buffer.allocUnsafe(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return this.put(tag, bytes);
  }

  /** The request as one frame. */
  frame(type: number): Buffer {
    const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + this.#bytes);
    frame.writeUInt32LE(this.#bytes, 0);
    frame.writeUInt32LE(type, 4);
    let at = FRAME_HEADER_BYTES;
    for (const { tag, value, bytes } of this.#fields) {
      frame.writeUInt32LE(bytes * 256 + tag, at);
      at += FIELD_HEADER_BYTES;
      if (typeof value === "string") frame.write(value, at, "utf8");
      else frame.set(value, at);
      at += bytes;
    }
    return frame;
  }
}

/** The fields of one answer. Absent and malformed ones are GUEST_PROTOCOL, unless a getter says otherwise. */
export class Fields {
  readonly #values = new Map<number, Uint8Array[]>();

  constructor(payload: Uint8Array) {
    let at = 0;
    while (at < payload.byteLength) {
      if (payload.byteLength - at < FIELD_HEADER_BYTES) throw malformed("trailing bytes");
      const tag = payload[at] ?? 0;
      const bytes =
        (payload[at + 1] ?? 0) | ((payload[at + 2] ?? 0) << 8) | ((payload[at + 3] ?? 0) << 16);
      at += FIELD_HEADER_BYTES;
      if (bytes > payload.byteLength - at) throw malformed("a field that runs past its frame");
      const value = payload.subarray(at, at + bytes);
      const values = this.#values.get(tag);
      if (values === undefined) this.#values.set(tag, [value]);
      else values.push(value);
      at += bytes;
    }
  }

  has(tag: number): boolean {
    return this.#values.has(tag);
  }

  bytes(tag: number): Uint8Array {
    const value = this.#values.get(tag)?.[0];
    if (value === undefined) throw malformed(`an answer without field ${tag}`);
    return value;
  }

  text(tag: number): string {
    return utf8.decode(this.bytes(tag));
  }

  texts(tag: number): string[] {
    return (this.#values.get(tag) ?? []).map((value) => utf8.decode(value));
  }

  textOrNull(tag: number): string | null {
    return this.has(tag) ? this.text(tag) : null;
  }

  u32(tag: number): number {
    const value = this.bytes(tag);
    if (value.byteLength !== 4)
      throw malformed(`field ${tag} with ${value.byteLength} bytes for 4`);
    return new DataView(value.buffer, value.byteOffset, 4).getUint32(0, true);
  }

  /** Values beyond 2^53 lose their last bits. */
  u64(tag: number): number {
    return Number(this.#wide(tag).getBigUint64(0, true));
  }

  i64(tag: number): bigint {
    return this.#wide(tag).getBigInt64(0, true);
  }

  #wide(tag: number): DataView {
    const value = this.bytes(tag);
    if (value.byteLength !== 8)
      throw malformed(`field ${tag} with ${value.byteLength} bytes for 8`);
    return new DataView(value.buffer, value.byteOffset, 8);
  }
}
