import type { Duplex } from "node:stream";
import { BelljarError } from "@belljar/protocol";
import { callGuest, FrameChannel } from "./channel.ts";
import { connectGuest } from "./connection.ts";
import { guestError } from "./errors.ts";
import { FRAME_HEADER_BYTES, Fields, FieldWriter, FrameDecoder, OP, SAY, TAG } from "./frames.ts";
import type { GuestConnect, GuestStats, ListeningPort } from "./types.ts";

const PORT_MAX = 65_535;
const PORT_COUNT_MAX = 4096;

function checkPort(port: number): number {
  if (!Number.isInteger(port) || port < 1 || port > PORT_MAX)
    throw new BelljarError("BAD_REQUEST", `port ${port} is not between 1 and ${PORT_MAX}`, {
      port,
    });
  return port;
}

/**
 * A raw byte pipe to a port of the sandbox's loopback, IPv4 first. Half-close is kept both ways.
 * PREVIEW_UNREACHABLE when nothing listens. `signal` counts until it is connected.
 */
export async function dialPort(
  connect: GuestConnect,
  port: number,
  signal?: AbortSignal,
): Promise<Duplex> {
  const request = new FieldWriter().u32(TAG.port, checkPort(port)).frame(OP.port);
  const duplex = await connectGuest(connect, signal);
  duplex.write(request);
  try {
    await readDialAnswer(duplex, port, signal);
    return duplex;
  } catch (error) {
    duplex.destroy();
    throw error;
  }
}

/** Takes exactly the answer's frame from the stream: what follows belongs to the caller. */
function readDialAnswer(duplex: Duplex, port: number, signal?: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const decoder = new FrameDecoder();
  const closed = (): void =>
    reject(
      new BelljarError("GUEST_UNREACHABLE", "the guest closed the connection while it dialled", {
        port,
      }),
    );
  const abort = (): void =>
    reject(new BelljarError("CANCELLED", "the dial was cancelled", { port }));
  const failed = (cause: Error): void =>
    reject(
      new BelljarError(
        "GUEST_UNREACHABLE",
        "the connection to the guest broke",
        { port },
        { cause },
      ),
    );
  const receive = (chunk: Buffer): void => {
    try {
      const used = takeAnswer(decoder, chunk, port);
      if (used === undefined) return;
      duplex.pause();
      duplex.off("data", receive);
      if (used < chunk.byteLength) duplex.unshift(chunk.subarray(used));
      resolve();
    } catch (error) {
      reject(error instanceof Error ? error : new BelljarError("GUEST_PROTOCOL", String(error)));
    }
  };
  duplex.on("data", receive);
  duplex.on("end", closed);
  duplex.on("close", closed);
  duplex.on("error", failed);
  signal?.addEventListener("abort", abort, { once: true });
  return promise.finally(() => {
    duplex.off("data", receive);
    duplex.off("end", closed);
    duplex.off("close", closed);
    duplex.off("error", failed);
    // A reset after this is for the caller to see as a close, never an unhandled error.
    duplex.on("error", () => undefined);
    signal?.removeEventListener("abort", abort);
  });
}

/** Bytes of `chunk` that the answer needed, undefined while it is incomplete. */
function takeAnswer(decoder: FrameDecoder, chunk: Buffer, port: number): number | undefined {
  let at = 0;
  let isDone = false;
  // The OK frame has no payload; only an error frame is longer than its header.
  while (at < chunk.byteLength && !isDone) {
    const part = chunk.subarray(at, at + (decoder.isAtBoundary ? FRAME_HEADER_BYTES : 1));
    at += part.byteLength;
    decoder.push(part, (type, payload) => {
      if (type === SAY.error) throw guestError(payload, "port", `port ${port}`);
      if (type !== SAY.ok)
        throw new BelljarError("GUEST_PROTOCOL", `the guest answered a dial with frame ${type}`);
      isDone = true;
    });
  }
  return isDone ? at : undefined;
}

/** TCP ports that something inside listens on. */
export async function listeningPorts(
  connect: GuestConnect,
  signal?: AbortSignal,
): Promise<ListeningPort[]> {
  const request = new FieldWriter().frame(OP.ports);
  const channel = await FrameChannel.open(connect, {
    request,
    context: "guest",
    subject: "",
    signal,
  });
  const ports: ListeningPort[] = [];
  try {
    for (;;) {
      const frame = await channel.next();
      if (frame.type === SAY.end) return ports;
      if (frame.type !== SAY.entry || ports.length >= PORT_COUNT_MAX)
        throw new BelljarError("GUEST_PROTOCOL", `the guest listed ports with frame ${frame.type}`);
      const fields = new Fields(frame.payload);
      ports.push({
        port: fields.u32(TAG.port),
        address: fields.text(TAG.address),
        uid: fields.u32(TAG.uid),
        pid: fields.has(TAG.pid) ? fields.u32(TAG.pid) : null,
        command: fields.textOrNull(TAG.command),
      });
    }
  } finally {
    channel.close();
  }
}

/** Resource numbers as they are seen inside. */
export async function guestStats(connect: GuestConnect, signal?: AbortSignal): Promise<GuestStats> {
  const request = new FieldWriter().frame(OP.stats);
  const fields = new Fields(
    await callGuest(connect, { request, context: "guest", subject: "", signal }),
  );
  return {
    processCount: fields.u32(TAG.count),
    rssBytes: fields.u64(TAG.rss),
    cpuTimeMs: fields.u64(TAG.cpuUs) / 1000,
    memoryTotalBytes: fields.u64(TAG.memoryTotal),
    memoryAvailableBytes: fields.u64(TAG.memoryAvailable),
    loadAverage: fields.u32(TAG.loadMilli) / 1000,
    diskTotalBytes: fields.u64(TAG.diskTotal),
    diskFreeBytes: fields.u64(TAG.diskFree),
    tmpTotalBytes: fields.u64(TAG.tmpTotal),
    tmpFreeBytes: fields.u64(TAG.tmpFree),
  };
}
