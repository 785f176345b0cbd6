import { createServer, connect, type Server, type Socket } from "node:net";

/** A client that sends exactly chosen bytes and collects everything that comes back. */
export class RawClient implements Disposable {
  readonly socket: Socket;
  text = "";
  isClosed = false;
  #waiters = new Set<() => void>();

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding("latin1");
    socket.on("data", (chunk: string) => {
      this.text += chunk;
      this.#wake();
    });
    for (const event of ["end", "close", "error"]) {
      socket.on(event, () => {
        this.isClosed = true;
        this.#wake();
      });
    }
  }

  static async to(port: number): Promise<RawClient> {
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    const socket = connect({ host: "127.0.0.1", port, noDelay: true, allowHalfOpen: true });
    socket.once("connect", () => resolve(undefined));
    socket.once("error", reject);
    await promise;
    return new RawClient(socket);
  }

  send(bytes: string): this {
    this.socket.write(bytes, "latin1");
    return this;
  }

  /** Everything received, as soon as `enough` is satisfied or the peer closes. */
  async until(enough: (text: string) => boolean): Promise<string> {
    while (!enough(this.text) && !this.isClosed) await this.#next();
    return this.text;
  }

  async untilClosed(): Promise<string> {
    return await this.until(() => false);
  }

  /** The status of the first answer. */
  async status(): Promise<number> {
    const text = await this.until((all) => all.includes("\r\n\r\n"));
    return Number(/^HTTP\/1\.1 ([0-9]{3}) /.exec(text)?.[1] ?? 0);
  }

  #next(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiters.add(resolve);
    return promise;
  }

  #wake(): void {
    for (const resolve of this.#waiters) resolve();
    this.#waiters.clear();
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

/** An app that answers with exactly chosen bytes: `serve` gets each connection. */
export async function rawApp(
  serve: (socket: Socket, connectionIndex: number) => void,
): Promise<AsyncDisposable & { port: number }> {
  const sockets = new Set<Socket>();
  let count = 0;
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
    serve(socket, count);
    count += 1;
  });
  const port = await listening(server);
  return {
    port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/** Listens on a free loopback port. */
export async function listening(server: Server): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  server.listen(0, "127.0.0.1", () => resolve(undefined));
  await promise;
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}
