import WebSocket from "ws";

const UNREAD_BYTES_HIGH = 4 * 1024 * 1024;
const UNREAD_BYTES_LOW = 1024 * 1024;

/**
 * A WebSocket that holds its sender back. The standard one has no way to say "wait", so a command
 * that prints faster than the terminal, the pipe or the disk takes it would pile up in memory; this
 * one stops reading from the network while too much lies unread.
 */
export class ClientSocket extends WebSocket {
  #unreadBytes = 0;

  constructor(
    url: string | URL,
    protocols: string | string[] | undefined,
    opened: (socket: ClientSocket) => void,
  ) {
    super(url, protocols, { perMessageDeflate: false });
    this.on("message", (data, isBinary) => {
      if (!isBinary || !(data instanceof ArrayBuffer)) return;
      this.#unreadBytes += data.byteLength;
      if (this.#unreadBytes > UNREAD_BYTES_HIGH) this.pause();
    });
    opened(this);
  }

  /** Says that `byteCount` bytes of output have been used up. */
  consumed(byteCount: number): void {
    // Every message carries one channel byte beside its data.
    this.#unreadBytes -= byteCount + 1;
    if (this.isPaused && this.#unreadBytes < UNREAD_BYTES_LOW) this.resume();
  }
}
