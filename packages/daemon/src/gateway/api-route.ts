import type { Server } from "node:http";
import { type Duplex, duplexPair } from "node:stream";
import type { ClientConnection } from "./client-connection.ts";
import type { ClientFacts, ClientRequest } from "./client-request.ts";
import { Exchange, type ExchangeOwner } from "./exchange.ts";
import type { ForwardFacts } from "./headers.ts";
import { Upstream } from "./upstream.ts";

/**
 * The way to the API's own HTTP server: one in-process stream a client connection, so that every
 * byte the API parses went through the same strict framing as a preview's. `remoteAddress` of the
 * stream is the client's, which no header can forge.
 */
export class ApiRoute implements ExchangeOwner {
  readonly learnsHostCheck = false;
  readonly #server: Server;
  readonly #upstreams = new WeakMap<ClientConnection, Upstream>();

  constructor(server: Server) {
    this.#server = server;
  }

  handle(request: ClientRequest): void {
    const { protocol, address } = request.facts;
    const facts: ForwardFacts = { kind: "api", protocol, address, localHost: undefined };
    new Exchange(request, this.#upstreamOf(request.connection, request.facts), facts, this).start();
  }

  #upstreamOf(connection: ClientConnection, client: ClientFacts): Upstream {
    const known = this.#upstreams.get(connection);
    if (known?.isUsable === true && isSameClient(clients.get(known.stream), client)) return known;
    known?.destroy();
    const [ours, theirs] = duplexPair();
    clients.set(ours, client);
    Object.defineProperties(theirs, {
      remoteAddress: { value: client.address },
      encrypted: { value: client.protocol === "https" },
    });
    // A half that is destroyed says nothing to the other one.
    theirs.once("close", () => ours.destroy());
    ours.once("close", () => theirs.destroy());
    const onClientClose = () => upstream.destroy();
    const upstream = new Upstream(ours, () => {
      connection.socket.off("close", onClientClose);
      if (this.#upstreams.get(connection) === upstream) this.#upstreams.delete(connection);
    });
    this.#upstreams.set(connection, upstream);
    connection.socket.once("close", onClientClose);
    this.#server.emit("connection", theirs);
    return upstream;
  }

  onReleased(upstream: Upstream): void {
    upstream.detach();
  }

  onStale(request: ClientRequest): boolean {
    this.handle(request);
    return true;
  }

  onHostRefused(): boolean {
    return false;
  }

  onTraffic(): void {
    // The API's traffic is no sandbox's activity.
  }

  onEnded(): void {
    // Nothing is kept of a request to the API.
  }
}

const clients = new WeakMap<Duplex, ClientFacts>();

function isSameClient(known: ClientFacts | undefined, client: ClientFacts): boolean {
  return known?.address === client.address && known.protocol === client.protocol;
}
