/**
 * API tokens: `bj_` and 40 characters of [0-9A-Za-z], of which only the SHA-256 is stored. What may be
 * done is the scope: read < operate < admin.
 */
export type { Identity, TokenService } from "./token-service.ts";
export { createTokenService, scopeCovers } from "./token-service.ts";
