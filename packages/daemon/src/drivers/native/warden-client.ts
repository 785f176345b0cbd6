/** The daemon's connection to the warden: requests multiplexed by id, events, re-connection. */
import type { Socket } from "node:net";
import { connect } from "node:net";
import { getSystemErrorName } from "node:util";
import { BelljarError } from "@belljar/protocol";
import type { HostPath } from "../../kernel/index.ts";
import type { AnswerRecord, Op, PlanRecord } from "./wire.ts";
import {
  ANSWERS,
  ANSWER_BYTES_MAX,
  HEADER_BYTES,
  OPS,
  decodeRecords,
  encodeRequest,
  textAt,
} from "./wire.ts";

/** Time that the warden has for one answer; its own bounds are shorter */
const REQUEST_MS_MAX = 30_000;
const REQUESTS_MAX = 4096;

/** The kernel said no: `step` names what was tried. */
export interface WardenRefusal {
  readonly errno: number;
  readonly name: string;
  readonly step: string;
}

/** The refusal in an error's details, if the warden refused. */
export function refusalOf(error: unknown): WardenRefusal | undefined {
  if (!BelljarError.is(error, "WARDEN_REFUSED")) return undefined;
  const { errno, name, step } = error.details ?? {};
  const isRefusal =
    typeof errno === "number" && typeof name === "string" && typeof step === "string";
  return isRefusal ? { errno, name, step } : undefined;
}

/** The error of an answer's T_ERROR value. */
export function refusedError(op: string, errno: number, step: string): BelljarError {
  const name = errnoName(errno);
  const message = `the warden could not ${op}: ${step}: ${name}`;
  return new BelljarError("WARDEN_REFUSED", message, { errno, name, step, op });
}

function errnoName(errno: number): string {
  try {
    return getSystemErrorName(-errno);
  } catch {
    // Node knows no name for the number; the number says it as well.
    return `errno ${errno}`;
  }
}

interface Waiting {
  readonly op: Op;
  readonly timer: NodeJS.Timeout;
  readonly resolve: (records: AnswerRecord[]) => void;
  readonly reject: (error: unknown) => void;
}

export interface WardenConnectionEvents {
  onExit(records: AnswerRecord[]): void;
  onClose(): void;
}

/** One open connection. When it closes, every waiting request fails with WARDEN_UNREACHABLE. */
export class WardenConnection {
  readonly #socket: Socket;
  readonly #events: WardenConnectionEvents;
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 1;
  #pending: Buffer = Buffer.alloc(0);
  #isClosed = false;

  private constructor(socket: Socket, events: WardenConnectionEvents) {
    this.#socket = socket;
    this.#events = events;
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#close());
  }

  static open(path: HostPath, events: WardenConnectionEvents): Promise<WardenConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ path });
      const fail = (cause: Error) => {
        const message = `the warden does not answer at ${path}`;
        reject(new BelljarError("WARDEN_UNREACHABLE", message, { path }, { cause }));
      };
      socket.once("error", fail);
      socket.once("connect", () => {
        socket.off("error", fail);
        resolve(new WardenConnection(socket, events));
      });
    });
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Calls `listener` when the connection has closed, at once if it has. */
  onceClosed(listener: () => void): void {
    if (this.#isClosed) listener();
    else this.#socket.once("close", listener);
  }

  request(op: Op, records: readonly PlanRecord[] = []): Promise<AnswerRecord[]> {
    if (this.#isClosed) return Promise.reject(this.#unreachable());
    if (this.#waiting.size >= REQUESTS_MAX) {
      const message = `${REQUESTS_MAX} requests wait for the warden`;
      return Promise.reject(new BelljarError("WARDEN_UNREACHABLE", message));
    }
    const id = this.#freeId();
    const { promise, resolve, reject } = Promise.withResolvers<AnswerRecord[]>();
    const frame = encodeRequest(op, id, records);
    const timer = setTimeout(() => this.close(), REQUEST_MS_MAX);
    timer.unref();
    this.#waiting.set(id, { op, timer, resolve, reject });
    this.#socket.write(frame);
    return promise;
  }

  /** A warden that is silent or speaks nonsense is as good as none. */
  close(): void {
    this.#socket.destroy();
  }

  #freeId(): number {
    while (this.#waiting.has(this.#nextId)) this.#nextId = (this.#nextId % 0x7fff_ffff) + 1;
    const id = this.#nextId;
    this.#nextId = (id % 0x7fff_ffff) + 1;
    return id;
  }

  #take(chunk: Buffer): void {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    let at = 0;
    while (this.#pending.length - at >= HEADER_BYTES) {
      const length = this.#pending.readUInt32LE(at);
      if (length > ANSWER_BYTES_MAX) return this.close();
      const end = at + HEADER_BYTES + length;
      if (this.#pending.length < end) break;
      const payload = this.#pending.subarray(at + HEADER_BYTES, end);
      this.#answer(this.#pending.readUInt32LE(at + 4), this.#pending.readUInt32LE(at + 8), payload);
      at = end;
    }
    this.#pending = this.#pending.subarray(at);
  }

  #answer(id: number, op: number, payload: Buffer): void {
    const waiting = this.#waiting.get(id);
    try {
      const records = decodeRecords(payload);
      if (id === 0 && op === OPS.exit) return this.#events.onExit(records);
      if (waiting === undefined) return;
      this.#settle(id, waiting, records);
    } catch {
      // A malformed answer leaves nothing to trust on this connection.
      this.close();
    }
  }

  #settle(id: number, waiting: Waiting, records: AnswerRecord[]): void {
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    const error = records.find(({ tag }) => tag === ANSWERS.error);
    if (error === undefined) return waiting.resolve(records);
    const errno = error.value.length >= 4 ? error.value.readUInt32LE(0) : 0;
    waiting.reject(refusedError(waiting.op, errno, textAt(error.value, 4)));
  }

  #close(): void {
    this.#isClosed = true;
    for (const { timer, reject } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(this.#unreachable());
    }
    this.#waiting.clear();
    this.#events.onClose();
  }

  #unreachable(): BelljarError {
    return new BelljarError("WARDEN_UNREACHABLE", "the connection to the warden is closed");
  }
}
