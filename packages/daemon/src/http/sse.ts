import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { BelljarError } from "@belljar/protocol";
import type { FastifyReply } from "fastify";
import type { Clock } from "../kernel/index.ts";
import { toBelljarError } from "./errors.ts";
import type { OpenStreams } from "./open-streams.ts";

/** One event of a stream. */
export interface StreamEvent {
  id?: number;
  event: string;
  data: unknown;
}

const HEARTBEAT_MS = 15_000;
/** A client that takes nothing for this long is cut; it comes back with `Last-Event-ID`. */
const STALLED_MS_MAX = 30_000;
const RECONNECT_MS = 1000;

/**
 * Sends events until the source ends, the client leaves, the daemon stops or the token ends. The source is asked for
 * the next event only when the last one is on its way, so a slow client queues nothing here; one that
 * takes nothing at all is cut with a comment.
 */
export async function sendEvents(
  reply: FastifyReply,
  context: { clock: Clock; streams: OpenStreams },
  source: (signal: AbortSignal) => AsyncIterable<StreamEvent>,
): Promise<void> {
  using stream = context.streams.open(reply.request.identity);
  const { controller } = stream;
  const response = openStream(reply);
  response.on("close", () => controller.abort());
  using _heartbeat = context.clock.every(HEARTBEAT_MS, () => {
    if (!response.writableNeedDrain) response.write(":\n\n");
  });
  response.write(`retry: ${RECONNECT_MS}\n:\n\n`);
  try {
    for await (const event of source(controller.signal)) {
      if (controller.signal.aborted) break;
      if (response.write(encode(event))) continue;
      if (!(await drains(response, controller.signal, context.clock))) {
        response.write(": cut: the client reads too slowly\n\n");
        break;
      }
    }
  } catch (error) {
    // The status is out already: the error travels as the stream's last event.
    if (!controller.signal.aborted) {
      response.write(encode({ event: "error", data: toBelljarError(error).toEnvelope().error }));
    }
  } finally {
    const { reason } = controller.signal as { reason: unknown };
    if (BelljarError.is(reason)) {
      response.write(encode({ event: "error", data: reason.toEnvelope().error }));
    }
    response.end();
    // What a stalled client has not taken keeps the response open; it gets no second wait.
    if (response.writableNeedDrain) response.destroy();
  }
}

function openStream(reply: FastifyReply): ServerResponse {
  reply.hijack();
  const headers = {
    ...reply.getHeaders(),
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
  };
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) reply.raw.setHeader(name, value);
  }
  reply.raw.writeHead(200);
  reply.raw.flushHeaders();
  return reply.raw;
}

async function drains(
  response: ServerResponse,
  signal: AbortSignal,
  clock: Clock,
): Promise<boolean> {
  const stalled = new AbortController();
  using _timer = clock.after(STALLED_MS_MAX, () => stalled.abort());
  try {
    await once(response, "drain", { signal: AbortSignal.any([signal, stalled.signal]) });
    return true;
  } catch {
    // Aborted: the client stalled or left, or the daemon stops. The caller ends the stream either way.
    return false;
  }
}

function encode({ id, event, data }: StreamEvent): string {
  // JSON has no line breaks, so one `data:` line is always enough.
  return `${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
