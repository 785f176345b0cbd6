import { BelljarError } from "@belljar/protocol";
import { FrameChannel } from "./channel.ts";
import { FILE_FLAG, fileCall, fileFields } from "./file-codec.ts";
import { Fields, OP, SAY, TAG } from "./frames.ts";
import type { FileChange, FileWatch, GuestConnect, WatchOptions } from "./types.ts";

const KINDS: readonly FileChange["kind"][] = [
  "created",
  "modified",
  "removed",
  "renamed",
  "attributes",
  "overflow",
];

function decodeChange(payload: Uint8Array): FileChange {
  const fields = new Fields(payload);
  const kind = KINDS[fields.u32(TAG.kind)];
  if (kind === undefined)
    throw new BelljarError("GUEST_PROTOCOL", "the guest sent an unknown change");
  const change: FileChange = {
    kind,
    path: fields.textOrNull(TAG.path) ?? "",
    isDirectory: fields.has(TAG.type) && fields.u32(TAG.type) === 1,
  };
  return fields.has(TAG.from) ? { ...change, fromPath: fields.text(TAG.from) } : change;
}

/** Resolves when the watches are in place. */
export async function watchFiles(
  connect: GuestConnect,
  path: string,
  options: WatchOptions,
): Promise<FileWatch> {
  const flags = options.recursive === false ? 0 : FILE_FLAG.recursive;
  const request = fileFields(path, options, flags)
    .u32(TAG.limit, options.directoryCountMax)
    .frame(OP.watch);
  const channel = await FrameChannel.open(connect, fileCall(path, options, request));
  try {
    const frame = await channel.next();
    if (frame.type !== SAY.ok)
      throw new BelljarError("GUEST_PROTOCOL", `the guest answered with frame ${frame.type}`);
    return new GuestFileWatch(channel);
  } catch (error) {
    channel.close();
    throw error;
  }
}

class GuestFileWatch implements FileWatch {
  readonly #channel: FrameChannel;
  #ended = false;

  constructor(channel: FrameChannel) {
    this.#channel = channel;
  }

  async next(): Promise<IteratorResult<FileChange>> {
    if (this.#ended) return { done: true, value: undefined };
    try {
      const frame = await this.#channel.next();
      if (frame.type === SAY.event) return { done: false, value: decodeChange(frame.payload) };
      if (frame.type !== SAY.end)
        throw new BelljarError("GUEST_PROTOCOL", `the guest sent frame ${frame.type} to a watch`);
    } catch (error) {
      // `return` while an event is waited for ends the loop, it is no failure.
      if (!this.#ended) {
        this.#end();
        throw error;
      }
    }
    return this.#end();
  }

  return(): Promise<IteratorResult<FileChange>> {
    return Promise.resolve(this.#end());
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #end(): IteratorResult<FileChange> {
    this.#ended = true;
    this.#channel.close();
    return { done: true, value: undefined };
  }
}
