import type { Socket } from "node:net";
import { BelljarError } from "@belljar/protocol";
import { answerText, jsonRefusal } from "./answers.ts";
import { type ClientFacts, ClientRequest } from "./client-request.ts";
import { ConnectionDeadlines, type Waiting } from "./connection-deadlines.ts";
import { kept, readDirectly } from "./direct-reads.ts";
import type { GatewayLimits } from "./limits.ts";
import { RequestRewrite } from "./rewrite-memo.ts";
import type { Sweeper } from "./sweeper.ts";
import {
  findHeadEnd,
  HeadMemo,
  isToken,
  malformed,
  parseRequestHead,
  type RequestHead,
} from "./wire/index.ts";

/** Bytes that a closing connection still reads, so that the client sees the answer before a reset. */
const LINGER_BYTES_MAX = 1024 * 1024;

const HEAD = 0;
const BUSY = 1;
const TUNNEL = 2;
const LINGER = 3;

/** What a connection needs from the front. */
export interface ConnectionHooks {
  readonly limits: GatewayLimits;
  readonly sweeper: Sweeper;
  readonly isDraining: boolean;
  handle(request: ClientRequest): void;
  /** Who sent the request, given who holds the connection. */
  identify(direct: ClientFacts, head: RequestHead): ClientFacts;
  onClosed(connection: ClientConnection): void;
}

/**
 * One client connection: reads one request at a time, hands it on, and reads the next when its
 * answer is complete. Bytes that nobody asked for yet stay in one small buffer, then in the kernel.
 */
export class ClientConnection {
  readonly socket: Socket;
  /** Who holds the connection: a client, or an edge */
  readonly direct: ClientFacts;
  readonly rewrite = new RequestRewrite();
  readonly #heads = new HeadMemo<RequestHead>();
  readonly #hooks: ConnectionHooks;
  #phase: 0 | 1 | 2 | 3 = HEAD;
  readonly #deadlines: ConnectionDeadlines;
  #pending: Buffer | undefined;
  #request: ClientRequest | undefined;
  #isProcessing = false;
  #isPaused = false;
  #progressBytes = 0;
  #lingerBytes = 0;

  constructor(socket: Socket, direct: ClientFacts, hooks: ConnectionHooks) {
    this.socket = readDirectly(socket, (chunk) => this.#onData(chunk));
    this.direct = direct;
    this.#hooks = hooks;
    this.#deadlines = new ConnectionDeadlines(hooks.sweeper, (what) => this.#onTimeUp(what));
    this.#deadlines.wait("head", hooks.limits.headTimeoutMs);
    this.socket.on("drain", () => this.#onDrain());
    this.socket.on("end", () => this.#onEnd());
    // What went wrong is told by `close`, which always follows.
    this.socket.on("error", () => undefined);
    this.socket.on("close", () => this.#onClose());
  }

  get isDraining(): boolean {
    return this.#hooks.isDraining;
  }

  get isIdle(): boolean {
    return this.#phase === HEAD && this.#pending === undefined;
  }

  destroy(): void {
    this.socket.destroy();
  }

  /** Closes so that the client cannot take a truncated answer for a whole one. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  /** Ends a connection without a request in flight, and tunnels, which have no end of their own. */
  drain(): void {
    if (this.#phase === TUNNEL) this.destroy();
    else if (this.isIdle) this.#linger();
  }

  /** The request's answer is complete. Called by the request. */
  finishRequest(keepAlive: boolean): void {
    this.#request = undefined;
    if (!keepAlive || this.#hooks.isDraining) {
      this.#linger();
      return;
    }
    this.#phase = HEAD;
    this.#awaitHead();
    if (this.#pending !== undefined || this.#isPaused) this.#process();
  }

  /** From now on every byte goes to the request's user, both ways. */
  becomeTunnel(): void {
    this.#phase = TUNNEL;
    this.#deadlines.waitForNothing();
  }

  /**
   * While the app takes the body the client has to send some, and else the app has to take some. Once
   * an answer has begun neither is timed: two streams may rest as long as both sides stay.
   */
  onBodyWantedChange(): void {
    const request = this.#request;
    if (request !== undefined && this.#phase === BUSY && !request.isBodyDone) {
      this.#progressBytes = 0;
      if (request.hasAnswerBegun) this.#deadlines.waitForNothing();
      else if (request.isBodyWanted) this.#awaitBody();
      else this.awaitApp();
    }
    this.#process();
  }

  /** The app is to answer, or to take more of a body. */
  awaitApp(): void {
    this.#deadlines.wait("app", this.#hooks.limits.responseTimeoutMs);
  }

  /** The answer has begun. */
  awaitNothing(): void {
    this.#deadlines.waitForNothing();
  }

  /** Bytes wait for the client to take them. */
  noteStalled(): void {
    this.#deadlines.noteStalled(this.#hooks.limits.clientStallTimeoutMs);
  }

  /** The time for a head runs from its first byte, but not while answers before it are still to be taken. */
  #awaitHead(): void {
    const { limits } = this.#hooks;
    if (this.socket.writableNeedDrain) this.#deadlines.waitForNothing();
    else if (this.#pending === undefined) this.#deadlines.wait("idle", limits.idleTimeoutMs);
    else this.#deadlines.wait("head", limits.headTimeoutMs);
  }

  #awaitBody(): void {
    this.#deadlines.wait("body", this.#hooks.limits.bodyProgressWindowMs);
  }

  #onTimeUp(what: Waiting | "stall"): void {
    const user = this.#request?.user;
    switch (what) {
      case "head":
        if (this.#pending === undefined) this.destroy();
        else this.#refuse(timedOut("the request's head took too long"));
        break;
      case "idle":
        this.#linger();
        break;
      case "body":
        if (this.#progressBytes === 0)
          user?.onFailure(timedOut("the request's body stopped coming"));
        else this.#awaitBody();
        this.#progressBytes = 0;
        break;
      case "app":
        user?.onFailure(
          new BelljarError("PREVIEW_TIMEOUT", "the app did not begin to answer in time"),
        );
        break;
      case "stall":
      case "linger":
        this.destroy();
        break;
      default:
    }
  }

  #onData(chunk: Buffer): void {
    if (this.#phase === LINGER) {
      this.#lingerBytes += chunk.length;
      if (this.#lingerBytes > LINGER_BYTES_MAX) this.destroy();
      return;
    }
    this.#pending = this.#pending === undefined ? chunk : Buffer.concat([this.#pending, chunk]);
    if (this.#phase === HEAD && this.#deadlines.waiting === "idle") this.#awaitHead();
    this.#process();
    if (this.#pending !== undefined) this.#pending = kept(this.#pending);
  }

  #process(): void {
    if (this.#isProcessing) return;
    this.#isProcessing = true;
    while (this.#pending !== undefined && this.#step(this.#pending)) {
      // Each step takes a head or a stretch of body off the pending bytes.
    }
    this.#isProcessing = false;
    this.#settleFlow();
  }

  /** Reads on while bytes are wanted; a client whose next bytes must wait is left to its socket's window. */
  #settleFlow(): void {
    const mustWait = this.#mustWait();
    if (mustWait === this.#isPaused) return;
    this.#isPaused = mustWait;
    if (mustWait) this.socket.pause();
    else this.socket.resume();
  }

  #mustWait(): boolean {
    const request = this.#request;
    switch (this.#phase) {
      case HEAD:
        return this.#pending !== undefined && this.socket.writableNeedDrain;
      case BUSY: {
        const isHeldBack = request !== undefined && !request.isBodyWanted && !request.isBodyDone;
        return this.#pending !== undefined || (isHeldBack && this.#isPaused);
      }
      case TUNNEL:
        return request !== undefined && !request.isBodyWanted;
      case LINGER:
        return false;
    }
  }

  #step(bytes: Buffer): boolean {
    if (this.#phase === HEAD) return this.#readHead(bytes);
    if (this.#phase === BUSY) return this.#readBody(bytes);
    if (this.#phase === TUNNEL && this.#request?.isBodyWanted === true) {
      this.#pending = undefined;
      this.#request.user?.onBody([bytes], false);
      return true;
    }
    if (this.#phase === LINGER) this.#pending = undefined;
    return false;
  }

  #readHead(bytes: Buffer): boolean {
    // A client that takes no answers is asked for no further requests: they would pile up in memory.
    if (this.socket.writableNeedDrain) return false;
    // RFC 9112 §2.2: one empty line before a request is tolerated; some clients send it after a body.
    const from = bytes[0] === 13 && bytes[1] === 10 ? 2 : 0;
    let head = this.#heads.recall(bytes, from);
    let end = from + this.#heads.byteCount;
    if (head === undefined) {
      try {
        end = findHeadEnd(bytes, from);
        if (end === -1) {
          refuseForeignStart(bytes, from);
          return false;
        }
        head = parseRequestHead(bytes.toString("latin1", from, end - 2));
        this.#heads.remember(bytes, from, end, head);
      } catch (error) {
        this.#refuse(error);
        return false;
      }
    }
    this.#pending = end < bytes.length ? bytes.subarray(end) : undefined;
    this.#phase = BUSY;
    this.#deadlines.waitForNothing();
    const request = new ClientRequest(this, head, this.#hooks.identify(this.direct, head));
    this.#request = request;
    this.#hooks.handle(request);
    return true;
  }

  #readBody(bytes: Buffer): boolean {
    const request = this.#request;
    if (request === undefined || !request.isBodyWanted || request.isBodyDone) return false;
    const parts: Buffer[] = [];
    let end: number;
    try {
      end = request.decoder.push(bytes, 0, parts);
    } catch (error) {
      this.#pending = undefined;
      if (BelljarError.is(error)) request.user?.onFailure(error);
      else this.destroy();
      return false;
    }
    this.#progressBytes += end;
    this.#pending = end < bytes.length ? bytes.subarray(end) : undefined;
    const { isBodyDone } = request;
    if (isBodyDone) this.#deadlines.waitForNothing();
    if (parts.length > 0 || isBodyDone) request.user?.onBody(parts, isBodyDone);
    return true;
  }

  #refuse(error: unknown): void {
    this.#pending = undefined;
    if (BelljarError.is(error)) {
      const answer = answerText(jsonRefusal(error), { method: "GET", minor: 1, keepAlive: false });
      this.socket.write(answer, "latin1");
      this.#linger();
    } else {
      this.destroy();
    }
  }

  /** Closes once the client has taken everything; until then only a client that takes nothing is cut off. */
  #linger(): void {
    this.#phase = LINGER;
    this.#pending = undefined;
    this.#deadlines.waitForNothing();
    this.noteStalled();
    this.socket.end(() => {
      this.#deadlines.noteDrained();
      this.#deadlines.wait("linger", this.#hooks.limits.lingerTimeoutMs);
    });
    this.#isPaused = false;
    this.socket.resume();
  }

  #onDrain(): void {
    this.#deadlines.noteDrained();
    if (this.#phase === HEAD) {
      this.#awaitHead();
      this.#process();
    } else {
      this.#request?.user?.onClientDrain();
    }
  }

  #onEnd(): void {
    if (this.#phase === TUNNEL) this.#request?.user?.onClientEnd();
    else if (this.#phase === HEAD) this.#linger();
    else if (this.#phase === BUSY) this.destroy();
  }

  #onClose(): void {
    this.#deadlines.end();
    this.#hooks.onClosed(this);
    const request = this.#request;
    this.#request = undefined;
    request?.gone();
  }
}

function timedOut(what: string): BelljarError {
  return new BelljarError("HTTP_REQUEST_TIMEOUT", what);
}

/** Tells a TLS or binary client what is wrong without waiting for a head that never ends. */
function refuseForeignStart(bytes: Buffer, from: number): void {
  const first = bytes.toString("latin1", from, from + 1);
  if (first === "\x16") throw malformed("a TLS handshake on a plain HTTP port");
  if (first !== "" && first !== "\r" && !isToken(first)) throw malformed("an invalid method");
}
