import { createHash } from "node:crypto";
import { fieldOf } from "./answers.ts";
import type { ClientRequest, ClientUser } from "./client-request.ts";
import { kept } from "./direct-reads.ts";
import type { ExchangeOwner } from "./exchange.ts";
import type { Upstream, UpstreamUser } from "./upstream.ts";
import type { RequestHead, ResponseHead } from "./wire/index.ts";

/** RFC 6455 §1.3 */
const HANDSHAKE_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** Whether a 101 answers this WebSocket handshake, and nothing else. */
export function acceptsHandshake(request: RequestHead, response: ResponseHead): boolean {
  const key = fieldOf(request, "sec-websocket-key");
  if (
    key === undefined ||
    response.upgrade !== "websocket" ||
    !response.connection.includes("upgrade")
  )
    return false;
  const expected = createHash("sha1")
    .update(key + HANDSHAKE_GUID)
    .digest("base64");
  const accepts = response.fields.filter(({ name }) => name === "sec-websocket-accept");
  return accepts.length === 1 && accepts[0]?.value === expected;
}

/** A WebSocket after its handshake: a raw pipe both ways, each side read as fast as the other takes. */
export class Tunnel implements ClientUser, UpstreamUser {
  readonly #request: ClientRequest;
  readonly #upstream: Upstream;
  readonly #owner: ExchangeOwner;
  #isUpstreamPaused = false;
  #hasUpstreamEnded = false;
  #isOver = false;

  constructor(request: ClientRequest, upstream: Upstream, owner: ExchangeOwner) {
    this.#request = request;
    this.#upstream = upstream;
    this.#owner = owner;
  }

  /** Takes over both sides; `rest` is what the app sent right behind its handshake. */
  start(rest: Buffer): void {
    this.#request.attach(this);
    this.#upstream.attach(this);
    this.#request.connection.becomeTunnel();
    if (rest.length > 0) this.onUpstreamData(rest);
    this.#request.wantBody(true);
  }

  onBody(parts: Buffer[]): void {
    if (this.#isOver || !this.#upstream.stream.writable) return;
    this.#owner.onTraffic();
    let isFlowing = true;
    for (const part of parts) isFlowing = this.#upstream.stream.write(kept(part));
    if (!isFlowing) this.#request.wantBody(false);
  }

  onUpstreamDrain(): void {
    this.#request.wantBody(true);
  }

  onUpstreamData(chunk: Buffer): void {
    if (this.#isOver) return;
    this.#owner.onTraffic();
    if (this.#request.write(kept(chunk))) return;
    this.#isUpstreamPaused = true;
    this.#upstream.stream.pause();
  }

  onClientDrain(): void {
    if (!this.#isUpstreamPaused) return;
    this.#isUpstreamPaused = false;
    this.#upstream.stream.resume();
  }

  /** What the client said last still reaches the app; the streams close by themselves once both sides have ended. */
  onClientEnd(): void {
    this.#upstream.stream.end();
  }

  onUpstreamEnd(): void {
    this.#hasUpstreamEnded = true;
    this.#request.connection.socket.end();
  }

  /** An app that ends properly lets what it said still reach the client; one that breaks off does not. */
  onUpstreamClose(error: Error | undefined): void {
    if (this.#isOver) return;
    if (this.#hasUpstreamEnded && error === undefined) this.#finish();
    else this.#request.connection.destroy();
  }

  onClientGone(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#upstream.destroy();
    this.#owner.onEnded();
  }

  onFailure(): void {
    this.#request.connection.destroy();
  }

  #finish(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#upstream.destroy();
    this.#request.finish(false);
    this.#owner.onEnded();
  }
}
