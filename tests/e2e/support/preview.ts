import net from "node:net";

const RESPONSE_BYTES_MAX = 16 * 1024 * 1024;

/** The canonical host of a preview. */
export function previewHost(
  id: string,
  port: number,
  daemonPort: number,
  domain = "localhost",
): string {
  return `${port}-${id}.${domain}:${daemonPort}`;
}

/** A raw exchange: what came back until the other side closed, or until `enough` said so. */
export interface RawExchange {
  readonly text: string;
  readonly closed: boolean;
  /** Status codes of the responses in order, as far as status lines can be seen */
  readonly statuses: number[];
}

/**
 * Writes `bytes` to the daemon's port exactly as they are and reads until the connection closes,
 * `enough` is true, or `timeoutMs` has passed.
 */
export function rawExchange(
  port: number,
  bytes: string | Buffer | readonly (string | Buffer)[],
  options: { timeoutMs?: number; enough?: (text: string) => boolean; pauseMs?: number } = {},
): Promise<RawExchange> {
  const { timeoutMs = 5_000, enough, pauseMs = 5 } = options;
  const parts = typeof bytes === "string" || Buffer.isBuffer(bytes) ? [bytes] : bytes;
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.setNoDelay(true);
    const chunks: Buffer[] = [];
    let size = 0;
    const finish = (closed: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      const text = Buffer.concat(chunks).toString("latin1");
      const statuses = [...text.matchAll(/HTTP\/1\.[01] ([0-9]{3})/g)].map((match) =>
        Number(match[1]),
      );
      resolve({ text, closed, statuses });
    };
    const timer = setTimeout(() => finish(false), timeoutMs);
    socket.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      size += chunk.length;
      if (size > RESPONSE_BYTES_MAX) finish(false);
      else if (enough?.(Buffer.concat(chunks).toString("latin1")) === true) finish(false);
    });
    socket.on("close", () => finish(true));
    socket.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNREFUSED") {
        clearTimeout(timer);
        reject(error);
      }
    });
    socket.on("connect", () => void sendParts(socket, parts, pauseMs));
  });
}

async function sendParts(
  socket: net.Socket,
  parts: readonly (string | Buffer)[],
  pauseMs: number,
): Promise<void> {
  for (const [index, part] of parts.entries()) {
    if (socket.destroyed) return;
    socket.write(part);
    if (index < parts.length - 1) await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}
