import type { BelljarError } from "@belljar/protocol";
import { type LocalAnswer, answerText, refusalOf } from "./answers.ts";
import type { ClientConnection } from "./client-connection.ts";
import { type BodyDecoder, createBodyDecoder, type RequestHead } from "./wire/index.ts";

/** Whoever answers a request: an exchange with an app, a tunnel, or a reader of a small body. */
export interface ClientUser {
  onBody(parts: Buffer[], isDone: boolean): void;
  onClientDrain(): void;
  /** The client ended its side; only asked of tunnels, everywhere else it counts as gone */
  onClientEnd(): void;
  onClientGone(): void;
  /** The body was not valid, or a time ran out */
  onFailure(error: BelljarError): void;
}

/** Who sent a request, as far as it is known without any credential. */
export interface ClientFacts {
  readonly address: string;
  readonly protocol: "http" | "https";
}

/** One request of a client connection, from its head to the end of its answer. */
export class ClientRequest {
  readonly head: RequestHead;
  readonly facts: ClientFacts;
  readonly connection: ClientConnection;
  readonly decoder: BodyDecoder;
  /** Whether its body may be read at the moment; a body nobody asks for stays in the kernel */
  isBodyWanted = false;
  isEnded = false;
  hasAnswerBegun = false;
  user: ClientUser | undefined;
  #abort: AbortController | undefined;

  constructor(connection: ClientConnection, head: RequestHead, facts: ClientFacts) {
    this.connection = connection;
    this.head = head;
    this.facts = facts;
    this.decoder = createBodyDecoder(head.framing);
  }

  /** Aborted when the client goes away, or when the answer ends. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.isEnded) this.#abort.abort();
    return this.#abort.signal;
  }

  /** `https://3000-….example`: what a browser calls this request's origin. */
  get origin(): string {
    return `${this.facts.protocol}://${this.head.authority.text}`;
  }

  get isBodyDone(): boolean {
    return this.decoder.isDone;
  }

  /** Gives the request to `user`; its body is not read before `wantBody`. */
  attach(user: ClientUser): void {
    this.user = user;
  }

  /** Takes the request back from its user. */
  detach(): void {
    this.user = undefined;
  }

  wantBody(isWanted: boolean): void {
    if (this.isBodyWanted === isWanted || this.isEnded) return;
    this.isBodyWanted = isWanted;
    this.connection.onBodyWantedChange();
  }

  /** Sends bytes of the answer; false asks the caller to wait for `onClientDrain`. */
  write(data: string | Buffer): boolean {
    this.hasAnswerBegun = true;
    const { socket } = this.connection;
    const isFlowing = typeof data === "string" ? socket.write(data, "latin1") : socket.write(data);
    if (!isFlowing) this.connection.noteStalled();
    return isFlowing;
  }

  /** A whole answer of our own. */
  answer(answer: LocalAnswer): void {
    if (this.isEnded) return;
    const keepAlive = this.isBodyDone && this.mayKeepAlive;
    this.write(answerText(answer, { method: this.head.method, minor: this.head.minor, keepAlive }));
    this.finish(keepAlive);
  }

  /** Answers with a refusal, as a page for browsers and as JSON for programs; cuts an answer that has begun. */
  refuse(error: BelljarError): void {
    if (this.isEnded) return;
    if (this.hasAnswerBegun) this.connection.destroy();
    else this.answer(refusalOf(error, this.head));
  }

  get mayKeepAlive(): boolean {
    return this.head.keepAlive && !this.connection.isDraining;
  }

  /** The answer is complete. Without `keepAlive`, or with body left, the connection is closed gently. */
  finish(keepAlive: boolean): void {
    if (this.isEnded) return;
    this.#end();
    this.connection.finishRequest(keepAlive && this.isBodyDone);
  }

  /** The client is gone. Called by the connection. */
  gone(): void {
    if (this.isEnded) return;
    this.#end();
    this.user?.onClientGone();
  }

  #end(): void {
    this.isEnded = true;
    this.#abort?.abort();
  }
}
