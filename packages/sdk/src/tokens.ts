import type { CreateTokenRequest, Token } from "@belljar/protocol";
import type { CallOptions, CreateOptions, Transport } from "./transport.ts";

/** API tokens, made by `belljar.tokens`; needs a token with the scope `admin`. */
export class Tokens {
  readonly #transport: Transport;

  /** @internal */
  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Makes a token; its value is in the answer and nowhere else. @throws FORBIDDEN. */
  create(request: CreateTokenRequest, options: CreateOptions = {}): Promise<Token> {
    return this.#transport.json({ method: "POST", path: "/v1/tokens", json: request, ...options });
  }

  /** Every token, without values. @throws FORBIDDEN. */
  async list(options: CallOptions = {}): Promise<Token[]> {
    return (
      await this.#transport.json<{ items: Token[] }>({ path: "/v1/tokens", signal: options.signal })
    ).items;
  }

  /** Ends a token at once. @throws TOKEN_NOT_FOUND, FORBIDDEN. */
  async revoke(id: string, options: CallOptions = {}): Promise<void> {
    const path = `/v1/tokens/${encodeURIComponent(id)}`;
    await this.#transport.json({ method: "DELETE", path, signal: options.signal });
  }
}
