import { BelljarError } from "@belljar/protocol";
import { createParser } from "eventsource-parser";
import type { CallOptions, Query, Transport } from "./transport.ts";

/** One server-sent event. */
export interface ServerEvent {
  id: string | undefined;
  event: string | undefined;
  data: string;
}

const RECONNECT_FIRST_MS = 250;
const RECONNECT_MAX_MS = 5000;
/** The daemon sends a comment at least every 15 s; three missed ones are a dead connection. */
const SILENCE_MS_MAX = 50_000;
const EVENT_CHARS_MAX = 16 * 1024 * 1024;

/** The events of one connection, until it ends. */
export async function* readEvents(
  transport: Transport,
  spec: { path: string; query?: Query; lastEventId?: string | undefined },
  options: CallOptions = {},
): AsyncGenerator<ServerEvent> {
  const watchdog = new AbortController();
  const signal =
    options.signal === undefined
      ? watchdog.signal
      : AbortSignal.any([options.signal, watchdog.signal]);
  const headers: Record<string, string> = { accept: "text/event-stream" };
  if (spec.lastEventId !== undefined) headers["last-event-id"] = spec.lastEventId;
  const timer = new SilenceTimer(watchdog);
  try {
    const request = {
      path: spec.path,
      headers,
      signal,
      ...(spec.query === undefined ? {} : { query: spec.query }),
    };
    const response = await transport.send(request);
    if (response.body === null) return;
    yield* parseEvents(response.body, timer);
  } catch (error) {
    if (options.signal?.aborted === true) throw options.signal.reason;
    throw error;
  } finally {
    timer.stop();
    watchdog.abort();
  }
}

class SilenceTimer {
  readonly #controller: AbortController;
  #handle: ReturnType<typeof setTimeout> | undefined;

  constructor(controller: AbortController) {
    this.#controller = controller;
    this.reset();
  }

  reset(): void {
    this.stop();
    const abort = () => {
      this.#controller.abort(
        new BelljarError("DAEMON_UNREACHABLE", "the event stream has been silent for too long"),
      );
    };
    this.#handle = setTimeout(abort, SILENCE_MS_MAX);
  }

  stop(): void {
    clearTimeout(this.#handle);
  }
}

async function* parseEvents(
  body: ReadableStream<Uint8Array>,
  timer: SilenceTimer,
): AsyncGenerator<ServerEvent> {
  const ready: ServerEvent[] = [];
  const parser = createParser({
    maxBufferSize: EVENT_CHARS_MAX,
    onEvent: ({ id, event, data }) => ready.push({ id, event, data }),
  });
  const decoder = new TextDecoder();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      timer.reset();
      parser.feed(decoder.decode(value, { stream: true }));
      yield* ready.splice(0);
    }
  } finally {
    // A consumer that stops early, or a broken connection: either way nothing more is wanted.
    await reader.cancel().catch(() => undefined);
  }
}

/** What {@link followEvents} needs to go on after a broken connection. */
export interface FollowOptions extends CallOptions {
  /** Id of the last event that is already known */
  since?: number | undefined;
}

/**
 * Events over as many connections as it takes: a broken one is opened again after the last event
 * seen. Ends when `isLast` says so; rejects with errors that trying again would not change.
 */
export async function* followEvents<Event>(
  transport: Transport,
  spec: { path: string; query?: Query; idOf(event: Event): number; isLast(event: Event): boolean },
  options: FollowOptions = {},
): AsyncGenerator<Event> {
  let lastId = options.since;
  let delayMs = RECONNECT_FIRST_MS;
  for (;;) {
    try {
      const lastEventId = lastId === undefined ? undefined : String(lastId);
      for await (const { data } of readEvents(transport, { ...spec, lastEventId }, options)) {
        // The daemon's events are the protocol's types; the caller names which.
        const event = JSON.parse(data) as Event;
        const id = spec.idOf(event);
        if (lastId !== undefined && id <= lastId) continue;
        lastId = id;
        delayMs = RECONNECT_FIRST_MS;
        yield event;
        if (spec.isLast(event)) return;
      }
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!isWorthRetrying(error)) throw error;
    }
    await pause(delayMs, options.signal);
    delayMs = Math.min(delayMs * 2, RECONNECT_MAX_MS);
  }
}

function isWorthRetrying(error: unknown): boolean {
  // What is no BelljarError here is fetch's own: the connection broke while it was read.
  return !BelljarError.is(error) || error.retryable;
}

function pause(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, delayMs);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
