import { Socket, type SocketConstructorOpts } from "node:net";
import type { Duplex } from "node:stream";

/** Bytes that one read takes; what libuv asks for by itself. */
const READ_BYTES_MAX = 64 * 1024;

/**
 * Where every socket's bytes arrive. One buffer serves them all, since a read is dealt with before
 * the next one can start: reads happen in the event loop alone. Memory for each read instead would
 * be some hundred megabytes a second under load, and the collector would run all the time.
 */
const arrival = Buffer.allocUnsafeSlow(READ_BYTES_MAX);

/** Bytes that outlive the call they were given in: a copy, if they lie where the next read arrives. */
export function kept(bytes: Buffer): Buffer {
  return bytes.buffer === arrival.buffer ? Buffer.from(bytes) : bytes;
}

/** What is used of a socket's handle; Node has it, and does not document it. */
interface Handle {
  reading: boolean;
  readStop(): number;
  useUserBuffer(buffer: Uint8Array): void;
}

/**
 * Gives each chunk of `stream` to `onChunk`, and returns the stream to use from now on. A chunk is
 * what it is until `onChunk` returns; who stores it, or writes it to a stream, takes {@link kept}. A plain
 * socket's reads skip the machinery of streams: its handle moves to a socket with `onread`, which
 * spares an allocation of 64 KiB and two queues for each read. `pause` and `resume` stop and start
 * it as before; `end` and `close` come as before. Any other stream is listened to.
 */
export function readDirectly<Stream extends Duplex>(
  stream: Stream,
  onChunk: (chunk: Buffer) => void,
): Stream | Socket {
  const handle = movableHandle(stream);
  if (handle === undefined) {
    stream.on("data", onChunk);
    // A dialler may hand over a paused stream (the guest's pipe is, while its answer is taken off), and
    // a listener does not wake one that was paused outright.
    stream.resume();
    return stream;
  }
  return moved(stream, handle, onChunk);
}

function moved(stream: Duplex, handle: Handle, onChunk: (chunk: Buffer) => void): Socket {
  Reflect.set(stream, "_handle", null);
  if (handle.reading) {
    handle.reading = false;
    handle.readStop();
  }
  const options: SocketConstructorOpts = {
    allowHalfOpen: stream.allowHalfOpen,
    onread: {
      buffer: arrival,
      callback(byteCount) {
        onChunk(arrival.subarray(0, byteCount));
        return true;
      },
    },
  };
  Reflect.set(options, "handle", handle);
  const socket = new Socket(options);
  // Whoever still holds the first socket can close it, and hears when it is closed.
  socket.once("close", () => stream.destroy());
  stream.once("close", () => socket.destroy());
  return socket;
}

/** The handle of a plain socket at rest that nothing was read from or is being written to. */
function movableHandle(stream: Duplex): Handle | undefined {
  if (!(stream instanceof Socket) || stream.constructor !== Socket) return undefined;
  const isAtRest =
    !stream.destroyed &&
    !stream.connecting &&
    stream.writable &&
    stream.readable &&
    stream.readableLength === 0 &&
    stream.writableLength === 0;
  if (!isAtRest) return undefined;
  const handle: unknown = Reflect.get(stream, "_handle");
  return isHandle(handle) ? handle : undefined;
}

/** A Node whose handles lack one of these gets the documented way. */
function isHandle(handle: unknown): handle is Handle {
  return (
    typeof handle === "object" &&
    handle !== null &&
    "reading" in handle &&
    typeof handle.reading === "boolean" &&
    "readStop" in handle &&
    typeof handle.readStop === "function" &&
    "useUserBuffer" in handle &&
    typeof handle.useUserBuffer === "function"
  );
}
