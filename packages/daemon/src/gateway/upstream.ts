import type { Duplex } from "node:stream";
import { readDirectly } from "./direct-reads.ts";
import { ResponseRewrite } from "./rewrite-memo.ts";
import { HeadMemo, type ResponseHead } from "./wire/index.ts";

/** Whoever uses an upstream connection at the moment: an exchange, or a tunnel. */
export interface UpstreamUser {
  onUpstreamData(chunk: Buffer): void;
  onUpstreamDrain(): void;
  /** The app ended its side */
  onUpstreamEnd(): void;
  /** The connection is gone; `error` when it broke */
  onUpstreamClose(error: Error | undefined): void;
}

/** A response head and the method that it answers: whether a body follows depends on both. */
export interface AnsweredHead {
  readonly method: string;
  readonly head: ResponseHead;
}

/**
 * One connection to an app or to the API. It has at most one user; whatever arrives without one was
 * not asked for, so nothing on the connection can be trusted any more and it is closed.
 */
export class Upstream {
  readonly stream: Duplex;
  readonly heads = new HeadMemo<AnsweredHead>();
  readonly rewrite = new ResponseRewrite();
  /** Whether an earlier exchange used it */
  isReused = false;
  /** Monotonic `ms` until which it may rest in the pool */
  idleUntilMs = 0;
  /** Monotonic `ms` at which it came to rest */
  idleSinceMs = 0;
  #user: UpstreamUser | undefined;
  #error: Error | undefined;
  #hasEnded = false;
  readonly #onLost: (upstream: Upstream) => void;

  constructor(stream: Duplex, onLost: (upstream: Upstream) => void) {
    this.#onLost = onLost;
    this.stream = readDirectly(stream, (chunk) => {
      if (this.#user === undefined) this.stream.destroy();
      else this.#user.onUpstreamData(chunk);
    });
    this.#listen();
  }

  #listen(): void {
    const { stream } = this;
    stream.on("drain", () => this.#user?.onUpstreamDrain());
    stream.on("end", () => {
      this.#hasEnded = true;
      if (this.#user === undefined) stream.destroy();
      else this.#user.onUpstreamEnd();
    });
    stream.on("error", (error: Error) => {
      this.#error = error;
    });
    stream.on("close", () => {
      const user = this.#user;
      this.#user = undefined;
      this.#onLost(this);
      user?.onUpstreamClose(this.#error);
    });
  }

  /** Whether a request can still be sent on it. */
  get isUsable(): boolean {
    return !this.stream.destroyed && !this.#hasEnded && this.stream.writable;
  }

  attach(user: UpstreamUser): void {
    this.#user = user;
  }

  /** The user is done; the connection rests or is about to be closed. */
  detach(): void {
    this.#user = undefined;
    this.isReused = true;
  }

  /** Closes at once; a user is not told, since it asked. */
  destroy(): void {
    this.#user = undefined;
    this.stream.destroy();
  }
}
