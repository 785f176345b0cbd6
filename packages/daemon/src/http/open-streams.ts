import { BelljarError } from "@belljar/protocol";
import type { Identity, TokenService } from "../auth/index.ts";

/** Streams that would never end by themselves: they end with the daemon, and with the token that opened them. */
export class OpenStreams {
  readonly #controllers = new Set<AbortController>();
  readonly #tokens: Pick<TokenService, "whenEnded">;
  #isClosed = false;

  constructor(tokens: Pick<TokenService, "whenEnded">) {
    this.#tokens = tokens;
  }

  get count(): number {
    return this.#controllers.size;
  }

  /**
   * A signal that fires at `closeAll`, and when the token of `caller` is revoked or expires, then with a
   * BelljarError as its reason; dispose it when the stream has ended.
   */
  open(caller: Identity | null): { readonly controller: AbortController } & Disposable {
    const controller = new AbortController();
    if (this.#isClosed) controller.abort();
    else this.#controllers.add(controller);
    const stack = new DisposableStack();
    stack.defer(() => this.#controllers.delete(controller));
    if (caller !== null) {
      stack.use(this.#tokens.whenEnded(caller, () => controller.abort(tokenEnded())));
    }
    return { controller, [Symbol.dispose]: () => stack.dispose() };
  }

  closeAll(): void {
    this.#isClosed = true;
    for (const controller of this.#controllers) controller.abort();
    this.#controllers.clear();
  }
}

function tokenEnded(): BelljarError {
  return new BelljarError("UNAUTHENTICATED", "the token was revoked or has expired");
}
