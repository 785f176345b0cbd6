import type { ExecClientMessage, ExecServerMessage } from "@belljar/protocol";
import { BelljarError, EXEC_CHANNELS, execServerMessageSchema } from "@belljar/protocol";

/** How a command ended. */
export type CommandExit = Omit<Extract<ExecServerMessage, { type: "exit" }>, "type">;

/** A piece of a command's output. */
export interface OutputChunk {
  stream: "stdout" | "stderr";
  data: Uint8Array;
}

/** Size of a terminal, in characters. */
export interface TerminalSize {
  columns: number;
  rows: number;
}

/** A WebSocket has no way to hold the sender back: what nobody reads is kept up to this many bytes. */
const UNREAD_BYTES_MAX = 64 * 1024 * 1024;
/** `writeStdin` waits while more than this is on its way. */
const STDIN_BUFFERED_BYTES_MAX = 1024 * 1024;
const STDIN_MESSAGE_BYTES_MAX = 32 * 1024;
const STDIN_POLL_MS = 5;

/**
 * A running command with its streams, made by `sandbox.spawn()` and `sandbox.processes.attach()`.
 *
 * @example
 * const command = await sandbox.spawn(["npm", "test"]);
 * for await (const { stream, data } of command.output) console.log(stream, new TextDecoder().decode(data));
 * const { exitCode } = await command.exited;
 */
export class RunningCommand {
  /** Process id inside the sandbox */
  readonly pid: number;
  /** How it ended; rejects when the connection breaks first */
  readonly exited: Promise<CommandExit>;
  readonly #socket: WebSocket;
  readonly #queue: OutputQueue;

  /** @internal */
  constructor(
    socket: WebSocket,
    pid: number,
    state: { exited: Promise<CommandExit>; queue: OutputQueue },
  ) {
    this.#socket = socket;
    this.#queue = state.queue;
    this.pid = pid;
    this.exited = state.exited;
    // Callers who only read the output still see the failure there.
    this.exited.catch(() => undefined);
  }

  /** Output as it comes, to be read once. @throws EXEC_TOO_LARGE when 64 MiB lie unread. */
  get output(): AsyncIterable<OutputChunk> {
    return this.#queue;
  }

  /** Sends bytes or text to standard input; waits while the connection is congested. */
  async writeStdin(data: Uint8Array | string): Promise<void> {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    for (let offset = 0; offset < bytes.length; offset += STDIN_MESSAGE_BYTES_MAX) {
      const piece = bytes.subarray(offset, offset + STDIN_MESSAGE_BYTES_MAX);
      const message = new Uint8Array(piece.length + 1);
      message[0] = EXEC_CHANNELS.stdin;
      message.set(piece, 1);
      if (!this.#isOpen())
        throw new BelljarError("PROCESS_NOT_FOUND", `command ${this.pid} has ended`);
      this.#socket.send(message);
      while (this.#isOpen() && this.#socket.bufferedAmount > STDIN_BUFFERED_BYTES_MAX)
        await drained();
    }
  }

  /** Ends standard input. */
  endStdin(): void {
    this.#send({ type: "stdin-end" });
  }

  /** Tells the command's terminal its size. */
  resize(size: TerminalSize): void {
    this.#send({ type: "resize", columns: size.columns, rows: size.rows });
  }

  /** Sends a signal, such as `SIGINT`, to the command's process group. */
  signal(signal: string): void {
    this.#send({ type: "signal", signal });
  }

  /** Closes the connection: a command started with `keep` goes on, any other is ended. */
  close(): void {
    this.#socket.close(1000);
  }

  /** The same as {@link RunningCommand.close}, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #isOpen(): boolean {
    return this.#socket.readyState === 1;
  }

  #send(message: ExecClientMessage): void {
    if (this.#isOpen()) this.#socket.send(JSON.stringify(message));
  }
}

/** Promise.withResolvers, which Node 20 lacks. */
function deferred<Value>() {
  let resolve: (value: Value) => void = () => undefined;
  let reject: (reason: unknown) => void = () => undefined;
  const promise = new Promise<Value>((onValue, onReason) => {
    resolve = onValue;
    reject = onReason;
  });
  return { promise, resolve, reject };
}

function drained(): Promise<void> {
  // Browsers give no event for this; the buffer itself is the only thing to look at.
  return new Promise((resolve) => setTimeout(resolve, STDIN_POLL_MS));
}

/** @internal Waits for `started`, then hands over the command. */
export function commandOver(
  socket: WebSocket,
  first: ExecClientMessage | undefined,
  signal: AbortSignal | undefined,
): Promise<RunningCommand> {
  const started = deferred<RunningCommand>();
  const exited = deferred<CommandExit>();
  exited.promise.catch(() => undefined);
  const queue = new OutputQueue(() => socket.close(1000));
  const fail = (error: Error) => {
    started.reject(error);
    exited.reject(error);
    queue.end(error);
  };
  const abort = () => {
    fail(reasonOf(signal));
    socket.close(1000);
  };
  socket.addEventListener("open", () => {
    if (first !== undefined) socket.send(JSON.stringify(first));
  });
  socket.addEventListener("message", ({ data }: MessageEvent<unknown>) => {
    if (data instanceof ArrayBuffer) return queue.push(new Uint8Array(data));
    const message = parseMessage(data);
    if (message.type === "started") {
      started.resolve(new RunningCommand(socket, message.pid, { exited: exited.promise, queue }));
    } else if (message.type === "exit") {
      const { type: _type, ...exit } = message;
      exited.resolve(exit);
      queue.end();
    } else {
      fail(BelljarError.fromEnvelope(message as Parameters<typeof BelljarError.fromEnvelope>[0]));
    }
  });
  socket.addEventListener("close", ({ code, reason }) => {
    signal?.removeEventListener("abort", abort);
    fail(
      new BelljarError(
        "DAEMON_UNREACHABLE",
        `the connection closed (${code}${reason === "" ? "" : `, ${reason}`})`,
      ),
    );
  });
  // A refused upgrade shows as an error and then a close without a reason: the close says it all.
  socket.addEventListener("error", () => undefined);
  signal?.addEventListener("abort", abort, { once: true });
  if (signal?.aborted === true) abort();
  return started.promise;
}

/** An AbortSignal's reason can be anything; nearly always it is an error. */
function reasonOf(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : new BelljarError("CANCELLED", String(reason));
}

function parseMessage(data: unknown): ExecServerMessage {
  return execServerMessageSchema.parse(JSON.parse(String(data)));
}

/** @internal Output between the socket and its reader, bounded. */
export class OutputQueue implements AsyncIterable<OutputChunk> {
  readonly #chunks: OutputChunk[] = [];
  readonly #overflowed: () => void;
  #unreadBytes = 0;
  #ended = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(overflowed: () => void) {
    this.#overflowed = overflowed;
  }

  push(message: Uint8Array): void {
    if (this.#ended) return;
    const stream = message[0] === EXEC_CHANNELS.stderr ? "stderr" : "stdout";
    const data = message.subarray(1);
    this.#unreadBytes += data.length;
    if (this.#unreadBytes > UNREAD_BYTES_MAX) {
      this.end(
        new BelljarError(
          "EXEC_TOO_LARGE",
          `more than ${UNREAD_BYTES_MAX} bytes of output lie unread`,
        ),
      );
      this.#overflowed();
      return;
    }
    this.#chunks.push({ stream, data });
    this.#wake?.();
  }

  end(error?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<OutputChunk> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        this.#unreadBytes -= chunk.data.length;
        yield chunk;
      } else if (this.#ended) {
        if (this.#error !== undefined) throw this.#error;
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
