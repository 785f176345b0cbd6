import type { Duplex } from "node:stream";
import { BelljarError } from "@belljar/protocol";
import { invariant, LIMITS } from "../kernel/index.ts";
import { type FrameHandler, connectGuest, GuestConnection } from "./connection.ts";
import { guestError } from "./errors.ts";
import { encodeFrame, FieldWriter, OP, SAY, SEND, TAG } from "./frames.ts";
import { OutputQueue } from "./output-queue.ts";
import { decodeExit, signalNumber, signalProcess, targetFields, targetText } from "./processes.ts";
import type {
  ExecExit,
  ExecRequest,
  ExecSession,
  GuestConnect,
  ProcessTarget,
  TerminalSize,
} from "./types.ts";

const FLAG = { stdin: 1, terminal: 2, keep: 4 } as const;
const TAG_BYTES_MAX = 64;
const USER_BYTES_MAX = 127;
/** A pid; an attached command's also says where in stdout and in stderr its kept output starts */
const STARTED_BYTES = 4;
const ATTACHED_BYTES = 20;
const LOST: ExecExit = {
  exitCode: null,
  signal: null,
  reason: "lost",
  maxRssBytes: 0,
  cpuTimeMs: 0,
};

function checkText(what: string, value: string, bytesMax: number): void {
  if (value === "" || value.includes("\0"))
    throw new BelljarError("BAD_REQUEST", `${what} is empty or contains NUL`, { what });
  if (Buffer.byteLength(value) > bytesMax)
    throw new BelljarError("BAD_REQUEST", `${what} has more than ${bytesMax} bytes`, {
      what,
      bytesMax,
    });
}

function putEnv(fields: FieldWriter, env: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(env)) {
    if (name === "" || name.includes("=") || name.includes("\0") || value.includes("\0"))
      throw new BelljarError(
        "BAD_REQUEST",
        `${JSON.stringify(name)} is not a variable that can be passed on`,
        { name },
      );
    fields.put(TAG.env, `${name}=${value}`);
  }
}

/** The request frame; throws BAD_REQUEST or EXEC_TOO_LARGE for what the guest would refuse. */
export function encodeExec(request: ExecRequest): Buffer {
  const fields = new FieldWriter();
  if (request.command.length === 0 || request.command[0] === "")
    throw new BelljarError("BAD_REQUEST", "the command is empty");
  for (const argument of request.command) {
    if (argument.includes("\0")) throw new BelljarError("BAD_REQUEST", "an argument contains NUL");
    fields.put(TAG.arg, argument);
  }
  putEnv(fields, request.env);
  if (request.cwd !== undefined) checkText("cwd", request.cwd, LIMITS.pathBytesMax);
  if (request.user !== undefined) checkText("user", request.user, USER_BYTES_MAX);
  if (request.tag !== undefined) checkText("tag", request.tag, TAG_BYTES_MAX);
  fields.put(TAG.cwd, request.cwd).put(TAG.user, request.user).put(TAG.tag, request.tag);
  fields.u32(TAG.timeoutMs, request.timeoutMs).u32(TAG.graceMs, request.graceMs);
  fields.u32(TAG.columns, request.terminal?.columns).u32(TAG.rows, request.terminal?.rows);
  const flags =
    (request.stdin === true ? FLAG.stdin : 0) |
    (request.terminal === undefined ? 0 : FLAG.terminal) |
    (request.keep === true ? FLAG.keep : 0);
  if (flags !== 0) fields.u32(TAG.flags, flags);
  if (fields.byteLength > LIMITS.guestRequestBytesMax)
    throw new BelljarError(
      "EXEC_TOO_LARGE",
      `arguments and environment have ${fields.byteLength} bytes, ${LIMITS.guestRequestBytesMax} at most`,
      { bytes: fields.byteLength, bytesMax: LIMITS.guestRequestBytesMax },
    );
  return fields.frame(OP.exec);
}

interface SessionOptions {
  readonly request: Buffer;
  /** What an error names */
  readonly subject: string;
  readonly signal: AbortSignal | undefined;
}

class GuestExecSession implements ExecSession, FrameHandler {
  readonly exited: Promise<ExecExit>;
  readonly started: Promise<ExecSession>;
  readonly #connect: GuestConnect;
  readonly #connection: GuestConnection;
  readonly #output: OutputQueue;
  readonly #subject: string;
  readonly #exit = Promise.withResolvers<ExecExit>();
  readonly #start = Promise.withResolvers<ExecSession>();
  #pid: number | undefined;
  #replayedFrom = { stdout: 0, stderr: 0 };
  #ended = false;
  #sentStdin = false;

  constructor(connect: GuestConnect, duplex: Duplex, options: SessionOptions) {
    this.#connect = connect;
    this.#subject = options.subject;
    this.exited = this.#exit.promise;
    this.started = this.#start.promise;
    this.#connection = new GuestConnection(duplex, this, options.signal);
    this.#output = new OutputQueue(this.#connection);
    this.#connection.send(options.request);
  }

  get pid(): number {
    invariant(this.#pid !== undefined, "a session is handed out when its command has started");
    return this.#pid;
  }

  get replayedFrom(): { readonly stdout: number; readonly stderr: number } {
    return this.#replayedFrom;
  }

  get output(): OutputQueue {
    return this.#output;
  }

  onFrame(type: number, payload: Uint8Array): void {
    if (this.#pid === undefined) {
      this.#onFirstFrame(type, payload);
      return;
    }
    if (type === SAY.stdout) this.#output.push({ stream: "stdout", data: payload });
    else if (type === SAY.stderr) this.#output.push({ stream: "stderr", data: payload });
    else if (type === SAY.exit) this.#finish(decodeExit(payload));
    else if (type === SAY.error) this.#finish(LOST);
    else throw new BelljarError("GUEST_PROTOCOL", `the guest sent frame ${type} to a command`);
  }

  onClosed(error: BelljarError): void {
    this.#start.reject(error);
    this.#finish(LOST);
  }

  async writeStdin(data: Uint8Array | string): Promise<void> {
    const bytes = typeof data === "string" ? Buffer.from(data) : data;
    this.#sentStdin = true;
    for (let at = 0; at < bytes.byteLength && !this.#ended; at += LIMITS.guestFrameBytesMax) {
      const part = bytes.subarray(at, at + LIMITS.guestFrameBytesMax);
      if (!this.#connection.send(encodeFrame(SEND.stdin, part))) await this.#connection.drained();
    }
  }

  endStdin(): void {
    this.#connection.send(encodeFrame(SEND.stdinEof));
  }

  resize(size: TerminalSize): void {
    const payload = Buffer.allocUnsafe(4);
    payload.writeUInt16LE(size.columns, 0);
    payload.writeUInt16LE(size.rows, 2);
    this.#connection.send(encodeFrame(SEND.resize, payload));
  }

  signal(signal: string | number): void {
    const number = signalNumber(signal);
    if (this.#ended) return;
    if (this.#sentStdin) {
      // Input that the command does not read would hold the signal back, so it goes around.
      signalProcess(this.#connect, { pid: this.pid }, number).catch(() => undefined);
      return;
    }
    const payload = Buffer.allocUnsafe(4);
    payload.writeUInt32LE(number);
    this.#connection.send(encodeFrame(SEND.signal, payload));
  }

  close(): void {
    this.#finish(LOST);
  }

  #onFirstFrame(type: number, payload: Uint8Array): void {
    if (type === SAY.error) throw guestError(payload, "exec", this.#subject);
    const isAttached = payload.byteLength === ATTACHED_BYTES;
    if (type !== SAY.started || (payload.byteLength !== STARTED_BYTES && !isAttached))
      throw new BelljarError("GUEST_PROTOCOL", `the guest answered a command with frame ${type}`);
    const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    this.#pid = view.getUint32(0, true);
    if (isAttached)
      this.#replayedFrom = {
        stdout: Number(view.getBigUint64(4, true)),
        stderr: Number(view.getBigUint64(12, true)),
      };
    this.#connection.forgetSignal();
    this.#start.resolve(this);
  }

  #finish(exit: ExecExit): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#connection.close();
    this.#output.end();
    this.#exit.resolve(exit);
  }
}

/** Starts a command. `signal` counts until it has started. */
export async function startExec(
  connect: GuestConnect,
  request: ExecRequest,
  signal?: AbortSignal,
): Promise<ExecSession> {
  const frame = encodeExec(request);
  const subject =
    request.cwd === undefined
      ? (request.command[0] ?? "")
      : `${request.command[0]} in ${request.cwd}`;
  const duplex = await connectGuest(connect, signal);
  return new GuestExecSession(connect, duplex, { request: frame, subject, signal }).started;
}

/** Joins a command that runs, or one that was kept: the output that is kept comes first. */
export async function attachExec(
  connect: GuestConnect,
  target: ProcessTarget,
  signal?: AbortSignal,
): Promise<ExecSession> {
  const duplex = await connectGuest(connect, signal);
  const request = targetFields(target).frame(OP.attach);
  return new GuestExecSession(connect, duplex, { request, subject: targetText(target), signal })
    .started;
}
