import type { Duplex } from "node:stream";
import { BelljarError } from "@belljar/protocol";
import { FrameDecoder } from "./frames.ts";
import type { GuestConnect } from "./types.ts";

/** What an unread frame costs in memory besides its bytes: a command that writes byte by byte makes many */
export const FRAME_OVERHEAD_BYTES = 256;

/** What a connection tells its operation. `onClosed` is called once, last, and never by `close`. */
export interface FrameHandler {
  onFrame(type: number, payload: Uint8Array): void;
  onClosed(error: BelljarError): void;
}

const cancelled = (cause?: unknown): BelljarError =>
  new BelljarError("CANCELLED", "the operation was cancelled", undefined, { cause });

/** A call, because the compiler takes a property that was read once for settled. */
const isAborted = (signal: AbortSignal): boolean => signal.aborted;

/** Opens a connection, wrapping whatever the transport says. */
export async function connectGuest(connect: GuestConnect, signal?: AbortSignal): Promise<Duplex> {
  if (signal !== undefined && isAborted(signal)) throw cancelled(signal.reason);
  let duplex: Duplex;
  try {
    duplex = await connect(signal);
  } catch (error) {
    if (signal !== undefined && isAborted(signal)) throw cancelled(error);
    if (BelljarError.is(error)) throw error;
    throw new BelljarError("GUEST_UNREACHABLE", "the guest cannot be reached", undefined, {
      cause: error,
    });
  }
  if (signal === undefined || !isAborted(signal)) return duplex;
  duplex.on("error", () => undefined); // a reset of a connection that nobody wants
  duplex.destroy();
  throw cancelled(signal.reason);
}

/** One operation's connection: frames out, frames in, closed once. */
export class GuestConnection {
  readonly #duplex: Duplex;
  readonly #decoder = new FrameDecoder();
  #handler: FrameHandler | undefined;
  #unlistenAbort: (() => void) | undefined;

  constructor(duplex: Duplex, handler: FrameHandler, signal?: AbortSignal) {
    this.#duplex = duplex;
    this.#handler = handler;
    duplex.on("data", (chunk: Buffer) => this.#receive(chunk));
    duplex.on("end", () => this.#closed(undefined));
    duplex.on("close", () => this.#closed(undefined));
    duplex.on("error", (error) => this.#closed(error));
    if (signal !== undefined) this.#listenAbort(signal);
  }

  /** False when the transport's buffer is full: wait for `drained` before sending more. */
  send(frame: Uint8Array): boolean {
    if (this.#handler === undefined) return true;
    return this.#duplex.write(frame);
  }

  /** Resolves when the transport's buffer is empty, or the connection is over. */
  drained(): Promise<void> {
    const duplex = this.#duplex;
    if (!duplex.writableNeedDrain || duplex.destroyed) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        duplex.off("drain", done);
        duplex.off("close", done);
        resolve();
      };
      duplex.once("drain", done);
      duplex.once("close", done);
    });
  }

  pause(): void {
    this.#duplex.pause();
  }

  resume(): void {
    this.#duplex.resume();
  }

  /** From here on an abort of the signal does nothing. */
  forgetSignal(): void {
    this.#unlistenAbort?.();
    this.#unlistenAbort = undefined;
  }

  /** Closes without a word to the handler. */
  close(): void {
    this.#handler = undefined;
    this.forgetSignal();
    this.#duplex.destroy();
  }

  #listenAbort(signal: AbortSignal): void {
    const abort = (): void => this.#fail(cancelled(signal.reason));
    if (signal.aborted) {
      queueMicrotask(abort);
      return;
    }
    signal.addEventListener("abort", abort, { once: true });
    this.#unlistenAbort = () => signal.removeEventListener("abort", abort);
  }

  #receive(chunk: Buffer): void {
    if (this.#handler === undefined) return;
    try {
      this.#decoder.push(chunk, (type, payload) => this.#handler?.onFrame(type, payload));
    } catch (error) {
      if (!BelljarError.is(error)) throw error;
      this.#fail(error);
    }
  }

  #closed(cause: unknown): void {
    if (this.#handler === undefined) return;
    this.#fail(
      new BelljarError(
        "GUEST_UNREACHABLE",
        "the guest closed the connection before its answer was complete",
        undefined,
        { cause },
      ),
    );
  }

  #fail(error: BelljarError): void {
    const handler = this.#handler;
    this.close();
    handler?.onClosed(error);
  }
}
