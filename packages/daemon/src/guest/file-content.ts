import { Readable } from "node:stream";
import { BelljarError } from "@belljar/protocol";
import { LIMITS } from "../kernel/index.ts";
import { FrameChannel } from "./channel.ts";
import { checkMode, decodeStat, FILE_FLAG, fileCall, fileFields, flagIf } from "./file-codec.ts";
import { encodeFrame, OP, SAY, SEND, TAG } from "./frames.ts";
import type { FileContent, FileStat, GuestConnect, ReadOptions, WriteOptions } from "./types.ts";

const unexpected = (type: number): BelljarError =>
  new BelljarError("GUEST_PROTOCOL", `the guest answered with frame ${type}`);

/** Opens a regular file: what it is, and its bytes as they are read. */
export async function readFile(
  connect: GuestConnect,
  path: string,
  options: ReadOptions,
): Promise<FileContent> {
  const fields = fileFields(path, options, 0)
    .u64(TAG.offset, options.offset)
    .u64(TAG.length, options.length);
  const channel = await FrameChannel.open(connect, fileCall(path, options, fields.frame(OP.read)));
  try {
    const frame = await channel.next();
    if (frame.type !== SAY.entry) throw unexpected(frame.type);
    return { stat: decodeStat(frame.payload), body: new FileBody(channel) };
  } catch (error) {
    channel.close();
    throw error;
  }
}

class FileBody extends Readable {
  readonly #channel: FrameChannel;

  constructor(channel: FrameChannel) {
    super({ highWaterMark: LIMITS.guestFrameBytesMax });
    this.#channel = channel;
  }

  override _read(): void {
    this.#channel.next().then(
      (frame) => {
        if (frame.type === SAY.data) this.push(frame.payload);
        else if (frame.type === SAY.end) this.push(null);
        else this.destroy(unexpected(frame.type));
      },
      (error: Error) => this.destroy(error),
    );
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#channel.close();
    callback(error);
  }
}

/** Replaces (or adds to) a file; resolves when the guest has acknowledged it. A failing `body` leaves nothing behind. */
export async function writeFile(
  connect: GuestConnect,
  path: string,
  body: Readable | Uint8Array | string,
  options: WriteOptions,
): Promise<FileStat> {
  const flags =
    flagIf(options.parents, FILE_FLAG.parents) |
    flagIf(options.append, FILE_FLAG.append) |
    flagIf(options.sync, FILE_FLAG.sync) |
    flagIf(options.noReplace, FILE_FLAG.noReplace);
  const request = fileFields(path, options, flags)
    .u32(TAG.mode, checkMode(options.mode))
    .frame(OP.write);
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  const isSmall = bytes instanceof Uint8Array && bytes.byteLength <= LIMITS.guestFrameBytesMax;
  // One write, so that the helper finds all of a small file when it starts.
  const first = isSmall
    ? Buffer.concat([request, encodeFrame(SEND.data, bytes), encodeFrame(SEND.end)])
    : request;
  const channel = await FrameChannel.open(connect, fileCall(path, options, first));
  try {
    if (!isSmall) await sendBody(channel, bytes);
    const frame = await channel.next();
    if (frame.type !== SAY.ok) throw unexpected(frame.type);
    return decodeStat(frame.payload);
  } finally {
    channel.close();
    if (body instanceof Readable) body.destroy();
  }
}

async function sendBody(channel: FrameChannel, body: Readable | Uint8Array): Promise<void> {
  const chunks: AsyncIterable<unknown> | Iterable<unknown> =
    body instanceof Readable ? body : [body];
  for await (const chunk of chunks) {
    const bytes = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
    if (!(bytes instanceof Uint8Array))
      throw new BelljarError("BAD_REQUEST", "a file's body is made of bytes");
    for (let at = 0; at < bytes.byteLength; at += LIMITS.guestFrameBytesMax) {
      if (channel.hasFailed) return; // `next` says why
      await channel.send(
        encodeFrame(SEND.data, bytes.subarray(at, at + LIMITS.guestFrameBytesMax)),
      );
    }
  }
  await channel.send(encodeFrame(SEND.end));
}
