import { BelljarError } from "@belljar/protocol";
import {
  connectGuest,
  FRAME_OVERHEAD_BYTES,
  type FrameHandler,
  GuestConnection,
} from "./connection.ts";
import { type ErrorContext, guestError } from "./errors.ts";
import { SAY } from "./frames.ts";
import type { GuestConnect } from "./types.ts";

/** Unread frames' bytes, each with some overhead, at which the connection is left alone */
const QUEUE_BYTES_HIGH = 256 * 1024;

export interface Frame {
  readonly type: number;
  readonly payload: Uint8Array;
}

export interface Call {
  readonly request: Uint8Array;
  readonly context: ErrorContext;
  /** What an error names */
  readonly subject: string;
  readonly signal: AbortSignal | undefined;
}

/** One operation whose answer is read frame by frame. Always close it. */
export class FrameChannel implements FrameHandler {
  readonly #connection: GuestConnection;
  readonly #call: Call;
  #queue: Frame[] = [];
  #bytes = 0;
  #paused = false;
  #error: BelljarError | undefined;
  #waiter: PromiseWithResolvers<Frame> | undefined;

  private constructor(duplex: ConstructorParameters<typeof GuestConnection>[0], call: Call) {
    this.#call = call;
    this.#connection = new GuestConnection(duplex, this, call.signal);
    this.#connection.send(call.request);
  }

  static async open(connect: GuestConnect, call: Call): Promise<FrameChannel> {
    return new FrameChannel(await connectGuest(connect, call.signal), call);
  }

  /** The next frame; rejects with what an ERROR frame says, or with how the connection ended. */
  next(): Promise<Frame> {
    const frame = this.#queue.shift();
    if (frame !== undefined) {
      this.#bytes -= frame.payload.byteLength + FRAME_OVERHEAD_BYTES;
      if (this.#paused && this.#queue.length === 0) {
        this.#paused = false;
        this.#connection.resume();
      }
      return Promise.resolve(frame);
    }
    if (this.#error !== undefined) return Promise.reject(this.#error);
    this.#waiter ??= Promise.withResolvers<Frame>();
    return this.#waiter.promise;
  }

  /** Resolves when the transport takes more; an operation that has already failed resolves at once. */
  async send(frame: Uint8Array): Promise<void> {
    if (this.hasFailed) return;
    if (!this.#connection.send(frame)) await this.#connection.drained();
  }

  /** Whether the answer is an error already, so that sending on is of no use. */
  get hasFailed(): boolean {
    return this.#error !== undefined;
  }

  close(): void {
    this.#connection.close();
    this.onClosed(new BelljarError("CANCELLED", "the operation was given up"));
  }

  onFrame(type: number, payload: Uint8Array): void {
    if (type === SAY.error) throw guestError(payload, this.#call.context, this.#call.subject);
    const frame = { type, payload };
    const waiter = this.#waiter;
    if (waiter !== undefined) {
      this.#waiter = undefined;
      waiter.resolve(frame);
      return;
    }
    this.#queue.push(frame);
    this.#bytes += payload.byteLength + FRAME_OVERHEAD_BYTES;
    if (this.#bytes < QUEUE_BYTES_HIGH || this.#paused) return;
    this.#paused = true;
    this.#connection.pause();
  }

  onClosed(error: BelljarError): void {
    this.#error ??= error;
    this.#waiter?.reject(this.#error);
    this.#waiter = undefined;
  }
}

/** One request, one OK frame; its payload. */
export async function callGuest(connect: GuestConnect, call: Call): Promise<Uint8Array> {
  const channel = await FrameChannel.open(connect, call);
  try {
    const frame = await channel.next();
    if (frame.type !== SAY.ok)
      throw new BelljarError("GUEST_PROTOCOL", `the guest answered with frame ${frame.type}`);
    return frame.payload;
  } finally {
    channel.close();
  }
}
