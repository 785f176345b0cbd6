import { createServer, type Server, type Socket } from "node:net";
import { BelljarError } from "@belljar/protocol";
import type { ApiRoute } from "./api-route.ts";
import { answerText, jsonRefusal } from "./answers.ts";
import { ClientConnection, type ConnectionHooks } from "./client-connection.ts";
import type { ClientFacts, ClientRequest } from "./client-request.ts";
import type { HostTable } from "./hosts.ts";
import { plainAddress, type TrustedProxies } from "./identity.ts";
import type { GatewayLimits } from "./limits.ts";
import type { Previews } from "./previews.ts";
import { isReserved, type Reserved } from "./reserved.ts";
import type { Sweeper } from "./sweeper.ts";
import type { RequestHead } from "./wire/index.ts";

/** `ms` between TCP keep-alive probes, which find clients that vanished without a word. */
const KEEP_ALIVE_DELAY_MS = 30_000;
const BACKLOG = 4_096;

export interface FrontOptions {
  readonly hosts: HostTable;
  readonly proxies: TrustedProxies;
  readonly limits: GatewayLimits;
  readonly sweeper: Sweeper;
  readonly api: ApiRoute;
  readonly previews: Previews;
  readonly reserved: Reserved;
}

/** The one listening socket of the daemon: accepts, counts, and routes every request by its own Host. */
export class Front implements ConnectionHooks {
  readonly limits: GatewayLimits;
  readonly sweeper: Sweeper;
  isDraining = false;
  readonly #options: FrontOptions;
  readonly #server: Server;
  readonly #connections = new Set<ClientConnection>();
  readonly #perAddress = new Map<string, number>();
  #onEmpty: (() => void) | undefined;

  constructor(options: FrontOptions) {
    this.#options = options;
    this.limits = options.limits;
    this.sweeper = options.sweeper;
    this.#server = createServer({
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_DELAY_MS,
    });
    this.#server.on("connection", (socket) => this.#accept(socket));
  }

  /** @throws PORT_TAKEN */
  async listen(host: string, port: number): Promise<{ host: string; port: number }> {
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    this.#server.once("error", (error) => reject(portTaken(error, host, port)));
    this.#server.listen({ host, port, backlog: BACKLOG }, () => resolve(undefined));
    await promise;
    const address = this.#server.address();
    return { host, port: typeof address === "object" && address !== null ? address.port : port };
  }

  handle(request: ClientRequest): void {
    const route = this.#options.hosts.route(request.head.authority.host);
    if (route.kind === "preview") {
      if (isReserved(request.head.target)) this.#options.reserved.handle(request, route);
      else this.#options.previews.handle(request, route);
    } else if (route.kind === "api") {
      this.#options.api.handle(request);
    } else {
      request.refuse(new BelljarError("HOST_REFUSED", "no site is served under this host name"));
    }
  }

  identify(direct: ClientFacts, head: RequestHead): ClientFacts {
    return this.#options.proxies.identify(direct, head);
  }

  onClosed(connection: ClientConnection): void {
    this.#connections.delete(connection);
    const { address } = connection.direct;
    const left = (this.#perAddress.get(address) ?? 1) - 1;
    if (left === 0) this.#perAddress.delete(address);
    else this.#perAddress.set(address, left);
    if (this.#connections.size === 0) this.#onEmpty?.();
  }

  /** Stops listening, lets requests in flight end for `graceMs`, then closes what is left. */
  async close(
    graceMs: number,
    after: (delayMs: number, run: () => void) => Disposable,
  ): Promise<void> {
    this.isDraining = true;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    if (this.#server.listening) this.#server.close();
    this.#onEmpty = () => resolve(undefined);
    for (const connection of this.#connections) connection.drain();
    if (this.#connections.size === 0) resolve(undefined);
    using timer = after(graceMs, () => {
      for (const connection of this.#connections) connection.destroy();
    });
    void timer;
    await promise;
  }

  #accept(socket: Socket): void {
    const address = plainAddress(socket.remoteAddress ?? "");
    const held = this.#perAddress.get(address) ?? 0;
    const isCrowded =
      held >= this.limits.connectionsPerAddressMax && !this.#options.proxies.isTrusted(address);
    if (address === "" || isCrowded || this.#connections.size >= this.limits.connectionCountMax) {
      turnAway(socket);
      return;
    }
    this.#perAddress.set(address, held + 1);
    this.#connections.add(new ClientConnection(socket, { address, protocol: "http" }, this));
  }
}

function turnAway(socket: Socket): void {
  const error = new BelljarError("HTTP_CONNECTION_LIMIT", "too many connections are open");
  socket.on("error", () => undefined);
  socket.end(
    answerText(jsonRefusal(error), { method: "GET", minor: 1, keepAlive: false }),
    "latin1",
    () => socket.destroy(),
  );
}

function portTaken(error: Error, host: string, port: number): BelljarError {
  return new BelljarError(
    "PORT_TAKEN",
    `cannot listen on ${host}:${port}: ${error.message}`,
    { host, port },
    { cause: error },
  );
}
