import type { TaskEvent } from "@belljar/protocol";
import { KIB, MIB } from "../kernel/index.ts";
import type { Clock } from "../kernel/index.ts";
import type { Store, TaskEntry, TaskEventEntry, WriteStep } from "../store/index.ts";
import { completeUtf8Length } from "./utf8.ts";

/** Bytes of output that a task's events hold; what comes after is read, counted and dropped */
const EVENT_BYTES_TOTAL_MAX = 8 * MIB;
/** Events of a task before its output is only counted: each costs a row, however little it says */
const EVENT_COUNT_MAX = 100_000;
/** Bytes of one event's text */
const EVENT_BYTES_MAX = 16 * KIB;
/** Bytes of the end of each stream that the task itself keeps */
export const TAIL_BYTES_MAX = 64 * KIB;
/** Bytes that wait to be written before the command is held back */
const PENDING_BYTES_MAX = 256 * KIB;
/** Milliseconds that output waits for more to be written with it */
const FLUSH_AFTER_MS = 50;

export type OutputStream = "stdout" | "stderr";

interface StreamState {
  /** Bytes that end in the middle of a character */
  rest: Buffer;
  tail: Buffer;
  bytes: number;
}

/**
 * Turns a task's output into its stored events: in order, bounded, several in one write. Offsets of each
 * stream are stored in the same write as the events, so a resumed task knows exactly what it has.
 */
export class TaskRecorder {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #taskId: string;
  readonly #written: () => void;
  readonly #streams: Record<OutputStream, StreamState>;
  #sequence: number;
  #pending: TaskEventEntry[] = [];
  #pendingBytes = 0;
  #isTruncated: boolean;
  #timer: Disposable | undefined;

  constructor(options: {
    store: Store;
    clock: Clock;
    task: TaskEntry;
    sequence: number;
    /** Ends of the streams as they are recorded so far */
    tails: Record<OutputStream, string>;
    /** Called after each write */
    written: () => void;
  }) {
    const { task } = options;
    this.#store = options.store;
    this.#clock = options.clock;
    this.#taskId = task.id;
    this.#written = options.written;
    this.#sequence = options.sequence;
    this.#isTruncated = task.stdoutBytes + task.stderrBytes > EVENT_BYTES_TOTAL_MAX;
    const stateOf = (bytes: number, tail: string) => ({
      rest: Buffer.alloc(0),
      tail: Buffer.from(tail),
      bytes,
    });
    this.#streams = {
      stdout: stateOf(task.stdoutBytes, options.tails.stdout),
      stderr: stateOf(task.stderrBytes, options.tails.stderr),
    };
  }

  /** How far into a stream this has come. */
  position(stream: OutputStream): number {
    return this.#streams[stream].bytes + this.#streams[stream].rest.length;
  }

  /** The end of a stream as text. */
  tail(stream: OutputStream): string {
    return this.#streams[stream].tail.toString("utf8");
  }

  /** Whether so much waits that the reader should `flush` before it reads on. */
  get isFull(): boolean {
    return this.#pendingBytes >= PENDING_BYTES_MAX;
  }

  output(stream: OutputStream, data: Uint8Array): void {
    const state = this.#streams[stream];
    const whole = state.rest.length === 0 ? Buffer.from(data) : Buffer.concat([state.rest, data]);
    const length = completeUtf8Length(whole);
    state.rest = Buffer.from(whole.subarray(length));
    this.#record(stream, whole.subarray(0, length));
  }

  /** Bytes are missing before what comes next: says so, and counts them. */
  skip(stream: OutputStream, toPosition: number): void {
    this.#streams[stream].rest = Buffer.alloc(0);
    this.#streams[stream].bytes = toPosition;
    this.#truncate();
  }

  event(type: TaskEvent["type"], body: { state?: TaskEntry["state"]; text?: string } = {}): void {
    this.#sequence += 1;
    this.#pending.push({
      taskId: this.#taskId,
      sequence: this.#sequence,
      atMs: this.#clock.now(),
      type,
      ...body,
    });
    this.#timer ??= this.#clock.after(
      FLUSH_AFTER_MS,
      () => void this.flush().catch(() => undefined),
    );
  }

  /** Writes what waits, with `patch` of the task in the same write. Throws STORAGE_FAILED, keeping it for the next time. */
  async flush(patch: Parameters<Store["tasks"]["patchStep"]>[1] = {}): Promise<void> {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    const events = this.#pending;
    const bytes = this.#pendingBytes;
    if (events.length === 0 && Object.keys(patch).length === 0) return;
    this.#pending = [];
    this.#pendingBytes = 0;
    const { stdout, stderr } = this.#streams;
    const steps: WriteStep[] = events.map((event) => this.#store.taskEvents.insertStep(event));
    const offsets = { stdoutBytes: stdout.bytes, stderrBytes: stderr.bytes };
    steps.push(this.#store.tasks.patchStep(this.#taskId, { ...offsets, ...patch }));
    try {
      await this.#store.write(steps);
    } catch (error) {
      this.#pending = [...events, ...this.#pending];
      this.#pendingBytes += bytes;
      throw error;
    }
    this.#written();
  }

  /** Records what ends in the middle of a character, as it is: nothing will complete it. */
  endOutput(): void {
    for (const stream of ["stdout", "stderr"] as const) {
      const { rest } = this.#streams[stream];
      this.#streams[stream].rest = Buffer.alloc(0);
      if (rest.length > 0) this.#record(stream, rest);
    }
  }

  #record(stream: OutputStream, bytes: Buffer): void {
    if (bytes.length === 0) return;
    const state = this.#streams[stream];
    state.bytes += bytes.length;
    state.tail = appendTail(state.tail, bytes);
    const total = this.#streams.stdout.bytes + this.#streams.stderr.bytes;
    if (total > EVENT_BYTES_TOTAL_MAX || this.#sequence >= EVENT_COUNT_MAX) {
      this.#truncate();
      return;
    }
    let left = bytes;
    while (left.length > 0) {
      const part = left.subarray(
        0,
        completeUtf8Length(left.subarray(0, EVENT_BYTES_MAX)) || EVENT_BYTES_MAX,
      );
      this.#append(stream, part);
      left = left.subarray(part.length);
    }
  }

  #append(stream: OutputStream, bytes: Buffer): void {
    const text = bytes.toString("utf8");
    this.#pendingBytes += bytes.length;
    const last = this.#pending.at(-1);
    if (
      last?.type === stream &&
      last.text !== undefined &&
      last.text.length + text.length <= EVENT_BYTES_MAX / 4
    ) {
      this.#pending[this.#pending.length - 1] = { ...last, text: last.text + text };
      return;
    }
    this.event(stream, { text });
  }

  #truncate(): void {
    if (this.#isTruncated) return;
    this.#isTruncated = true;
    this.event("truncated");
  }
}

function appendTail(tail: Buffer, bytes: Buffer): Buffer {
  const joined = Buffer.concat([tail, bytes]);
  if (joined.length <= TAIL_BYTES_MAX) return joined;
  let cut = joined.subarray(-TAIL_BYTES_MAX);
  // Not in the middle of a character: its continuation bytes start with the bits 10.
  while (cut.length > 0 && ((cut[0] ?? 0) & 0xc0) === 0x80) cut = cut.subarray(1);
  return Buffer.from(cut);
}
