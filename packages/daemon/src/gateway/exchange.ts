import { BelljarError } from "@belljar/protocol";
import type { ClientRequest, ClientUser } from "./client-request.ts";
import { type ClientFraming, type ForwardFacts, interimHeadText } from "./headers.ts";
import { kept } from "./direct-reads.ts";
import { HOST_CHECK_BYTES_MAX, isHostRefusal } from "./host-check.ts";
import { acceptsHandshake, Tunnel } from "./tunnel.ts";
import type { Upstream, UpstreamUser } from "./upstream.ts";
import {
  badResponse,
  type BodyDecoder,
  createBodyDecoder,
  findHeadEnd,
  parseResponseHead,
  type ResponseHead,
} from "./wire/index.ts";
import { writeParts } from "./write-parts.ts";

/** Interim (1xx) answers that an app may send before the real one. */
const INTERIM_COUNT_MAX = 16;

/** Whoever started an exchange. */
export interface ExchangeOwner {
  /** The connection is clean and may be used again, for `keepMs` if the app said so. */
  onReleased(upstream: Upstream, keepMs: number | undefined): void;
  /** A reused connection turned out to be closed and nothing was sent to the app; true if the owner tries again. */
  onStale(request: ClientRequest): boolean;
  /** Whether an answer may be a dev server's refusal of the public host, which `onHostRefused` then handles. */
  readonly learnsHostCheck: boolean;
  /** The app refused the Host; true if the owner asks again with another. */
  onHostRefused(request: ClientRequest): boolean;
  /** Bytes flow. */
  onTraffic(): void;
  /** Over, whatever the outcome. Not called when `onStale` took the request back. */
  onEnded(): void;
}

/**
 * One request with its answer between a client and an app. Bytes stream both ways, and each side
 * is read only as fast as the other takes. Any doubt about where a message ends closes the
 * connection to the app; it is never given to another request.
 */
export class Exchange implements ClientUser, UpstreamUser {
  readonly #request: ClientRequest;
  readonly #upstream: Upstream;
  readonly #facts: ForwardFacts;
  readonly #owner: ExchangeOwner;
  #partialHead: Buffer | undefined;
  #response: ResponseHead | undefined;
  #decoder: BodyDecoder | undefined;
  #framing: ClientFraming = "none";
  #keepAlive = false;
  #headText = "";
  /** The beginning of an answer that may be a host check's; sent on when it is not */
  #suspect: Buffer[] | undefined;
  #interimCount = 0;
  #isDirty = false;
  #isOver = false;
  #isUpstreamPaused = false;

  constructor(
    request: ClientRequest,
    upstream: Upstream,
    facts: ForwardFacts,
    owner: ExchangeOwner,
  ) {
    this.#request = request;
    this.#upstream = upstream;
    this.#facts = facts;
    this.#owner = owner;
  }

  start(): void {
    const { head } = this.#request;
    this.#request.attach(this);
    this.#upstream.attach(this);
    const text = this.#request.connection.rewrite.text(head, this.#facts);
    this.#upstream.stream.write(text, "latin1");
    if (this.#request.isBodyDone) this.#awaitAnswer();
    else this.#request.wantBody(true);
  }

  onBody(parts: Buffer[], isDone: boolean): void {
    if (this.#isOver) return;
    const { stream } = this.#upstream;
    const isChunked = this.#request.head.framing.kind === "chunked";
    const isFlowing =
      parts.length === 0 && !isChunked
        ? true
        : writeParts(stream, "", parts, { isChunked, isDone });
    this.#owner.onTraffic();
    if (isDone && this.#response === undefined) this.#awaitAnswer();
    if (!isFlowing && !isDone) this.#request.wantBody(false);
  }

  /** An app must begin to answer in time. The API times its own work: a command may run for days. */
  #awaitAnswer(): void {
    const { connection } = this.#request;
    if (this.#facts.kind === "preview") connection.awaitApp();
    else connection.awaitNothing();
  }

  onUpstreamDrain(): void {
    this.#request.wantBody(true);
  }

  onClientDrain(): void {
    if (!this.#isUpstreamPaused) return;
    this.#isUpstreamPaused = false;
    this.#upstream.stream.resume();
  }

  onClientEnd(): void {
    this.#request.connection.destroy();
  }

  onClientGone(): void {
    this.#over(false);
  }

  onFailure(error: BelljarError): void {
    if (this.#isOver) return;
    this.#over(false);
    if (this.#request.hasAnswerBegun && this.#framing === "until-close")
      this.#request.connection.reset();
    else this.#request.refuse(error);
  }

  onUpstreamData(chunk: Buffer): void {
    if (this.#isOver) return;
    const bytes =
      this.#partialHead === undefined ? chunk : Buffer.concat([this.#partialHead, chunk]);
    this.#partialHead = undefined;
    try {
      this.#read(bytes);
    } catch (error) {
      const bad = badResponse(error);
      if (!BelljarError.is(bad)) throw bad;
      this.onFailure(bad);
    }
  }

  #read(bytes: Buffer): void {
    let at = 0;
    while (this.#response === undefined) {
      const head = this.#readHead(bytes, at);
      if (head === undefined) {
        this.#partialHead = kept(at === 0 ? bytes : bytes.subarray(at));
        return;
      }
      at += head.byteCount;
      if (head.status === 101) {
        this.#upgrade(head, bytes.subarray(at));
        return;
      }
      if (head.status < 200) this.#interim(head);
      else this.#begin(head);
      if (at === bytes.length && this.#response === undefined) return;
    }
    this.#readBody(bytes, at);
  }

  /** The head at `bytes[from…]`, or undefined while it is incomplete. */
  #readHead(bytes: Buffer, from: number): ResponseHead | undefined {
    const { method } = this.#request.head;
    const { heads } = this.#upstream;
    const known = heads.recall(bytes, from);
    if (known?.method === method) return known.head;
    const end = findHeadEnd(bytes, from);
    if (end === -1) return undefined;
    const head = parseResponseHead(bytes.toString("latin1", from, end - 2), method);
    if (head.status >= 200) heads.remember(bytes, from, end, { method, head });
    return head;
  }

  #interim(head: ResponseHead): void {
    this.#interimCount += 1;
    if (this.#interimCount > INTERIM_COUNT_MAX) {
      throw new BelljarError(
        "PREVIEW_BAD_RESPONSE",
        `the app sent more than ${INTERIM_COUNT_MAX} interim answers`,
      );
    }
    const { minor, expectsContinue } = this.#request.head;
    if (minor === 0 || (head.status === 100 && !expectsContinue)) return;
    this.#request.connection.socket.write(
      interimHeadText(head, this.#request.head, this.#facts),
      "latin1",
    );
  }

  #begin(head: ResponseHead): void {
    const request = this.#request;
    const { minor } = request.head;
    this.#response = head;
    this.#decoder = createBodyDecoder(head.framing);
    this.#framing = clientFraming(head, minor);
    // An answer that overtakes its request's body ends the connection: the rest of the body may never come.
    this.#keepAlive = request.isBodyDone && request.mayKeepAlive && this.#framing !== "until-close";
    this.#headText = this.#upstream.rewrite.text(head, request.head, this.#facts, {
      minor,
      keepAlive: this.#keepAlive,
      framing: this.#framing,
    });
    request.connection.awaitNothing();
    const mayAskAgain = isReplayable(request.head.method, request.head.framing.kind);
    if (head.status === 403 && this.#owner.learnsHostCheck && mayAskAgain) this.#suspect = [];
  }

  #readBody(bytes: Buffer, from: number): void {
    const decoder = this.#decoder;
    if (decoder === undefined) return;
    let parts: Buffer[] = [];
    const end = decoder.push(bytes, from, parts);
    if (end < bytes.length) this.#isDirty = true;
    if (this.#suspect !== undefined) {
      parts = [...this.#suspect, ...parts.map(kept)];
      this.#suspect = parts;
      if (this.#isHeldForHostCheck(parts, decoder.isDone)) return;
    }
    this.#send(parts, decoder.isDone);
    if (decoder.isDone) this.#complete();
    else this.#owner.onTraffic();
  }

  /** Whether the answer is kept back: because it is too short to judge yet, or because the app is asked again. */
  #isHeldForHostCheck(parts: readonly Buffer[], isDone: boolean): boolean {
    const begin = Buffer.concat(parts);
    if (!isDone && begin.length < HOST_CHECK_BYTES_MAX) return true;
    this.#suspect = undefined;
    if (!isHostRefusal(begin.toString("latin1", 0, HOST_CHECK_BYTES_MAX))) return false;
    this.#isOver = true;
    this.#upstream.destroy();
    if (this.#owner.onHostRefused(this.#request)) return true;
    this.#isOver = false;
    return false;
  }

  #send(parts: Buffer[], isDone: boolean): void {
    const prefix = this.#headText;
    this.#headText = "";
    const isChunked = this.#framing === "chunked";
    if (parts.length === 0 && prefix === "" && !(isChunked && isDone)) return;
    this.#request.hasAnswerBegun = true;
    const isFlowing = writeParts(this.#request.connection.socket, prefix, parts, {
      isChunked,
      isDone,
    });
    if (isFlowing) return;
    this.#request.connection.noteStalled();
    if (isDone) return;
    this.#isUpstreamPaused = true;
    this.#upstream.stream.pause();
  }

  #complete(): void {
    const { keepAlive = false, framing } = this.#response ?? {};
    const isClean =
      keepAlive && framing?.kind !== "close" && !this.#isDirty && this.#request.isBodyDone;
    this.#over(isClean);
    this.#request.finish(this.#keepAlive);
  }

  #upgrade(head: ResponseHead, rest: Buffer): void {
    const request = this.#request;
    if (!request.head.isWebSocketUpgrade || !acceptsHandshake(request.head, head)) {
      throw new BelljarError(
        "PREVIEW_BAD_RESPONSE",
        "the app switched protocols without being asked to, or wrongly",
      );
    }
    this.#isOver = true;
    request.write(interimHeadText(head, request.head, this.#facts));
    new Tunnel(request, this.#upstream, this.#owner).start(rest);
  }

  onUpstreamEnd(): void {
    if (this.#isOver) return;
    if (this.#response?.framing.kind === "close") {
      const suspect = this.#suspect ?? [];
      if (this.#suspect !== undefined && this.#isHeldForHostCheck(suspect, true)) return;
      this.#send(suspect, true);
      this.#complete();
    } else {
      this.#lost();
    }
  }

  onUpstreamClose(): void {
    if (!this.#isOver) this.#lost();
  }

  /** The app's connection ended in the middle: tried again if that is safe, told truthfully otherwise. */
  #lost(): void {
    const request = this.#request;
    const { method, framing } = request.head;
    const isUntouched =
      this.#partialHead === undefined && this.#response === undefined && this.#interimCount === 0;
    if (this.#upstream.isReused && isUntouched && isReplayable(method, framing.kind)) {
      this.#isOver = true;
      this.#upstream.destroy();
      if (this.#owner.onStale(request)) return;
      this.#isOver = false;
    }
    this.onFailure(
      new BelljarError(
        "PREVIEW_APP_CLOSED",
        "the app closed the connection in the middle of its answer",
      ),
    );
  }

  #over(isClean: boolean): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#isUpstreamPaused && isClean) this.#upstream.stream.resume();
    if (isClean) this.#owner.onReleased(this.#upstream, keepMsOf(this.#response));
    else this.#upstream.destroy();
    this.#owner.onEnded();
  }
}

/** Whether a request may be sent a second time when the first connection was already closed (RFC 9110 §9.2.2). */
export function isReplayable(method: string, framing: string): boolean {
  return framing === "none" && (method === "GET" || method === "HEAD" || method === "OPTIONS");
}

function clientFraming(head: ResponseHead, minor: 0 | 1): ClientFraming {
  switch (head.framing.kind) {
    case "none":
      return "none";
    case "fixed":
      return "as-length";
    default:
      return minor === 1 ? "chunked" : "until-close";
  }
}

/** `Keep-Alive: timeout=5` as `ms`, a little less so that the app never closes first. */
function keepMsOf(response: ResponseHead | undefined): number | undefined {
  const field = response?.fields.find(({ name }) => name === "keep-alive");
  const seconds =
    field === undefined ? null : /(?:^|[\s,;])timeout=([0-9]{1,6})/i.exec(field.value);
  return seconds === null ? undefined : Math.max(0, Number(seconds[1]) * 1_000 - 500);
}
