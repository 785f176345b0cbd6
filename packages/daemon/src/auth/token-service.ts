import type { Scope, Token } from "@belljar/protocol";
import type { SandboxId } from "../kernel/index.ts";

/** Who a verified token is. */
export interface Identity {
  /** The token's id; `config:<name>` for one of the configuration */
  readonly tokenId: string;
  readonly name: string;
  readonly scope: Scope;
}

/** Makes, knows and revokes API tokens. */
export interface TokenService {
  /** Makes the first token, scope admin, if the store holds none and the configuration gives none; its value is never readable again. */
  createFirst(): Promise<Token | undefined>;
  /** The token with its value, this once. */
  create(request: { name: string; scope: Scope; expiresInMs: number | null }): Promise<Token>;
  /** Who it is; undefined for unknown, expired and revoked tokens alike. */
  verify(token: string): Promise<Identity | undefined>;
  list(): Promise<Token[]>;
  /** TOKEN_NOT_FOUND for an unknown id. Takes effect at once. */
  revoke(id: string): Promise<void>;
  /** Whether the holder of `token` may see private previews of the sandbox. */
  mayPreview(token: string, id: SandboxId): Promise<boolean>;
}

/** Whether `held` allows what needs `needed`: read < operate < admin. */
export declare function scopeCovers(held: Scope, needed: Scope): boolean;

export declare function createTokenService(options: {
  store: import("../store/index.ts").Store;
  clock: import("../kernel/index.ts").Clock;
  /** Tokens of the configuration: `name:secret` or `name=secret`, scope admin. CONFIG_INVALID for any other shape. */
  configured: readonly string[];
}): TokenService;
