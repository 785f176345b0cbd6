import type { ExecClientMessage } from "@belljar/protocol";
import { BelljarError, EXEC_CHANNELS, execClientMessageSchema } from "@belljar/protocol";
import type { RawData, WebSocket } from "ws";
import type { z } from "zod";
import type { ExecSession } from "../guest/index.ts";
import type { Clock } from "../kernel/index.ts";
import type { Logger } from "../log/index.ts";
import { toBelljarError } from "./errors.ts";
import { invalidInput } from "./validation.ts";

export type StartMessage = Extract<z.output<typeof execClientMessageSchema>, { type: "start" }>;

export interface ExecSocketOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** Told about traffic, for the sandbox's idleness */
  readonly onTraffic: () => void;
  /** Opens the session: with the first message, or without one where a process is attached to */
  readonly open: (start: StartMessage | undefined) => Promise<ExecSession>;
  /** Whether the first message is `start` */
  readonly awaitsStart: boolean;
}

const START_WITHIN_MS = 10_000;
const PING_MS = 20_000;
const UNANSWERED_PINGS_MAX = 3;
/** The guest is not read while more than this waits for the client */
const BUFFERED_BYTES_MAX = 1024 * 1024;
/** A client that takes nothing for this long, with output waiting, is cut */
const STALLED_MS_MAX = 10 * 60_000;

/** Time for the answer to a close that was not the client's idea */
const CLOSE_WITHIN_MS = 2000;

const CLOSE_NORMAL = 1000;
const CLOSE_GOING_AWAY = 1001;
const CLOSE_POLICY = 1008;
const CLOSE_FAILED = 1011;

/**
 * One WebSocket over one session of the guest. Both directions hold back their sender: the socket is
 * paused while input waits for the guest, and the guest's output is not read while the client lags.
 * When the client goes away the session is closed, which ends the command unless it is kept.
 */
export class ExecSocket {
  readonly #socket: WebSocket;
  readonly #options: ExecSocketOptions;
  readonly #cleanups = new DisposableStack();
  #session: ExecSession | undefined;
  #isOpening = false;
  #input: Promise<void> = Promise.resolve();
  #inputCount = 0;
  #unansweredPings = 0;

  constructor(socket: WebSocket, options: ExecSocketOptions) {
    this.#socket = socket;
    this.#options = options;
  }

  /** Serves until the command or the connection has ended. Never rejects. */
  async run(): Promise<void> {
    const closed = Promise.withResolvers<void>();
    this.#socket.on("close", () => closed.resolve());
    // A broken frame or connection: `close` follows, and that is where the session ends.
    this.#socket.on("error", () => undefined);
    this.#socket.on("message", (data, isBinary) => this.#receive(data, isBinary));
    this.#watchConnection();
    if (this.#options.awaitsStart) this.#limitStart();
    else void this.#begin(undefined);
    await closed.promise;
    this.#cleanups.dispose();
    this.#session?.close();
  }

  #watchConnection(): void {
    const { clock, signal } = this.#options;
    const stop = () => {
      const reason: unknown = signal.reason;
      if (!BelljarError.is(reason))
        return this.#socket.close(CLOSE_GOING_AWAY, "the daemon is stopping");
      this.#fail(reason, CLOSE_POLICY);
      // A client that ignores the close keeps neither its command nor its connection.
      this.#session?.close();
      this.#cleanups.use(clock.after(CLOSE_WITHIN_MS, () => this.#socket.terminate()));
      return undefined;
    };
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    this.#cleanups.defer(() => signal.removeEventListener("abort", stop));
    this.#socket.on("pong", () => {
      this.#unansweredPings = 0;
    });
    this.#cleanups.use(
      clock.every(PING_MS, () => {
        // Behind waiting output a ping proves nothing; the limit on stalled output holds there.
        if (this.#socket.bufferedAmount > 0) return;
        this.#unansweredPings += 1;
        if (this.#unansweredPings > UNANSWERED_PINGS_MAX) this.#socket.terminate();
        else this.#socket.ping();
      }),
    );
  }

  #limitStart(): void {
    this.#cleanups.use(
      this.#options.clock.after(START_WITHIN_MS, () => {
        if (!this.#isOpening)
          this.#fail(new BelljarError("TIMED_OUT", "no `start` message came"), CLOSE_POLICY);
      }),
    );
  }

  #receive(data: RawData, isBinary: boolean): void {
    // What comes after our close is of no consequence, whoever sends it.
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    this.#inputCount += 1;
    if (this.#inputCount === 1) this.#socket.pause();
    this.#input = this.#input.then(async () => {
      try {
        await this.#handle(toBuffer(data), isBinary);
      } catch (error) {
        this.#fail(error, CLOSE_POLICY);
      }
      this.#inputCount -= 1;
      if (this.#inputCount === 0) this.#socket.resume();
    });
  }

  async #handle(data: Buffer, isBinary: boolean): Promise<void> {
    this.#options.onTraffic();
    if (isBinary) return this.#writeInput(data);
    const message = parseMessage(data);
    if (message.type === "start") {
      if (!this.#options.awaitsStart || this.#isOpening) {
        throw new BelljarError(
          "BAD_REQUEST",
          "`start` is the first message, and there is only one",
        );
      }
      return this.#begin(message);
    }
    const session = this.#started();
    if (message.type === "stdin-end") session.endStdin();
    else if (message.type === "signal") session.signal(message.signal);
    else session.resize({ columns: message.columns, rows: message.rows });
    return undefined;
  }

  async #writeInput(data: Buffer): Promise<void> {
    if (data[0] !== EXEC_CHANNELS.stdin) {
      throw new BelljarError(
        "BAD_REQUEST",
        `a binary message to the server begins with 0, got ${data[0] ?? "nothing"}`,
      );
    }
    if (data.length > 1) await this.#started().writeStdin(data.subarray(1));
  }

  #started(): ExecSession {
    if (this.#session === undefined)
      throw new BelljarError("BAD_REQUEST", "the first message must be `start`");
    return this.#session;
  }

  async #begin(start: StartMessage | undefined): Promise<void> {
    this.#isOpening = true;
    try {
      const session = await this.#options.open(start);
      this.#session = session;
      // The client may have left while the session opened.
      if (this.#socket.readyState !== this.#socket.OPEN) return session.close();
      this.#socket.send(JSON.stringify({ type: "started", pid: session.pid }));
      void this.#pump(session);
    } catch (error) {
      this.#fail(error, CLOSE_FAILED);
    }
  }

  async #pump(session: ExecSession): Promise<void> {
    try {
      for await (const { stream, data } of session.output) {
        this.#options.onTraffic();
        const message = Buffer.allocUnsafe(data.length + 1);
        message[0] = EXEC_CHANNELS[stream];
        message.set(data, 1);
        if (!(await this.#deliver(message))) return;
      }
      const { exitCode, signal, reason, maxRssBytes, cpuTimeMs } = await session.exited;
      this.#socket.send(
        JSON.stringify({ type: "exit", exitCode, signal, reason, maxRssBytes, cpuTimeMs }),
      );
      this.#socket.close(CLOSE_NORMAL);
    } catch (error) {
      this.#fail(error, CLOSE_FAILED);
    }
  }

  /** Sends; waits for the client where much is on its way already. False when there is nobody to send to. */
  async #deliver(message: Buffer): Promise<boolean> {
    if (this.#socket.readyState !== this.#socket.OPEN) return false;
    if (this.#socket.bufferedAmount < BUFFERED_BYTES_MAX) {
      this.#socket.send(message);
      return true;
    }
    using _stalled = this.#options.clock.after(STALLED_MS_MAX, () => this.#socket.terminate());
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#socket.send(message, (error) => resolve(error === undefined || error === null));
    return await promise;
  }

  #fail(error: unknown, closeCode: number): void {
    const known = toBelljarError(error);
    if (known.code === "INTERNAL") this.#options.logger.error("http.bug", { error });
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    this.#socket.send(JSON.stringify({ type: "error", ...known.toEnvelope() }));
    this.#socket.close(closeCode, known.code);
  }
}

function toBuffer(data: RawData): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}

function parseMessage(data: Buffer): z.output<typeof execClientMessageSchema> {
  const content = parseJson(data);
  const result = execClientMessageSchema.safeParse(content);
  if (result.success) return result.data;
  throw invalidInput(result.error.issues, content, "message");
}

function parseJson(data: Buffer): unknown {
  try {
    return JSON.parse(data.toString("utf8")) as ExecClientMessage;
  } catch (error) {
    throw new BelljarError("BAD_REQUEST", "a text message is not JSON", undefined, {
      cause: error,
    });
  }
}
