/**
 * HTTP/1.1 framing, both ways, as pure functions over bytes and text. It knows nothing of sockets,
 * hosts or sandboxes. Sources: RFC 9110, 9112, 6455.
 */
export type { Authority } from "./authority.ts";
export { parseAuthority } from "./authority.ts";
export type { BodyDecoder } from "./body-decoder.ts";
export { createBodyDecoder } from "./body-decoder.ts";
export type { Framing, HeadField } from "./fields.ts";
export { findHeadEnd, HEAD_BYTES_MAX, isToken, malformed, parseTokenList } from "./fields.ts";
export { HeadMemo } from "./head-memo.ts";
export type { RequestHead } from "./request-head.ts";
export { parseRequestHead } from "./request-head.ts";
export type { ResponseHead } from "./response-head.ts";
export { badResponse, parseResponseHead } from "./response-head.ts";
