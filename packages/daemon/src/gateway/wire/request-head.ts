import { type Authority, parseAuthority } from "./authority.ts";
import { CR, LF, SPACE, TARGET, TOKEN } from "./characters.ts";
import {
  CHUNKED,
  type Framing,
  type HeadField,
  malformed,
  NO_BODY,
  parseContentLength,
  parseFields,
  NO_OPTIONS,
  parseTokenList,
  staysOpen,
} from "./fields.ts";

/** Bytes of a request target. */
export const TARGET_BYTES_MAX = 16 * 1024;
const METHOD_CHARS_MAX = 32;

/** One request's head, checked so that no two parsers read it differently. */
export interface RequestHead {
  readonly method: string;
  /** In origin form (`/path?query`), or `*` */
  readonly target: string;
  /** 1 for HTTP/1.1, 0 for HTTP/1.0 */
  readonly minor: 0 | 1;
  /** The head as received, which the fields' places point into */
  readonly text: string;
  readonly fields: readonly HeadField[];
  readonly authority: Authority;
  readonly framing: Framing;
  /** Lower-case options of its Connection headers */
  readonly connection: readonly string[];
  /** Whether the client keeps the connection open for another request */
  readonly keepAlive: boolean;
  readonly isWebSocketUpgrade: boolean;
  readonly expectsContinue: boolean;
}

interface RequestLine {
  readonly method: string;
  readonly target: string;
  readonly minor: 0 | 1;
  readonly fieldsFrom: number;
}

interface FieldFacts {
  host: string | undefined;
  contentLength: number | undefined;
  isChunked: boolean;
  connection: readonly string[];
  upgrade: string | undefined;
  expectsContinue: boolean;
}

/**
 * Reads a request head. `text` is the head in latin1, every line ending in CRLF, without the final
 * blank line.
 *
 * @throws HTTP_MALFORMED, HTTP_TARGET_TOO_LONG, HTTP_METHOD_REFUSED, HTTP_VERSION_REFUSED,
 *   HTTP_TRANSFER_CODING_REFUSED, HTTP_EXPECTATION_REFUSED, HTTP_HEAD_TOO_LARGE
 */
export function parseRequestHead(text: string): RequestHead {
  const line = parseRequestLine(text);
  const fields = parseFields(text, line.fieldsFrom);
  const facts = gatherFacts(fields, line.minor);
  if (facts.host === undefined) throw malformed("no Host header");
  const authority = parseAuthority(facts.host);
  const isWebSocketUpgrade = isUpgrade(line, facts);
  return {
    method: line.method,
    target: originForm(line, authority),
    minor: line.minor,
    text,
    fields,
    authority,
    framing: framingOf(facts),
    connection: facts.connection,
    keepAlive: staysOpen(line.minor, facts.connection),
    isWebSocketUpgrade,
    expectsContinue: facts.expectsContinue,
  };
}

function parseRequestLine(text: string): RequestLine {
  let at = 0;
  while (TOKEN[text.charCodeAt(at)] === 1) at += 1;
  if (at === 0 || at > METHOD_CHARS_MAX || text.charCodeAt(at) !== SPACE) {
    throw malformed("an invalid method");
  }
  const method = text.slice(0, at);
  const targetFrom = at + 1;
  at = targetFrom;
  while (TARGET[text.charCodeAt(at)] === 1) at += 1;
  if (at === targetFrom || text.charCodeAt(at) !== SPACE)
    throw malformed("an invalid request target");
  if (at - targetFrom > TARGET_BYTES_MAX) {
    throw malformed(
      `a request target longer than ${TARGET_BYTES_MAX} bytes`,
      "HTTP_TARGET_TOO_LONG",
    );
  }
  const minor = parseVersion(text, at + 1);
  if (method === "CONNECT" || method === "TRACE" || method === "TRACK") {
    throw malformed(`the method ${method}`, "HTTP_METHOD_REFUSED");
  }
  return { method, target: text.slice(targetFrom, at), minor, fieldsFrom: at + 11 };
}

function parseVersion(text: string, from: number): 0 | 1 {
  const version = text.slice(from, from + 8);
  const endsLine = text.charCodeAt(from + 8) === CR && text.charCodeAt(from + 9) === LF;
  if (!endsLine || !/^HTTP\/[0-9]\.[0-9]$/.test(version))
    throw malformed("an invalid HTTP version");
  if (version === "HTTP/1.1") return 1;
  if (version === "HTTP/1.0") return 0;
  throw malformed(`${version} on a connection that speaks HTTP/1.1`, "HTTP_VERSION_REFUSED");
}

function gatherFacts(fields: readonly HeadField[], minor: 0 | 1): FieldFacts {
  const facts: FieldFacts = {
    host: undefined,
    contentLength: undefined,
    isChunked: false,
    connection: NO_OPTIONS,
    upgrade: undefined,
    expectsContinue: false,
  };
  for (const { name, value } of fields) {
    switch (name) {
      case "host":
        if (facts.host !== undefined) throw malformed("two Host headers");
        facts.host = value;
        break;
      case "content-length":
        if (facts.contentLength !== undefined) throw malformed("two Content-Length headers");
        facts.contentLength = parseContentLength(value);
        break;
      case "transfer-encoding":
        noteTransferEncoding(facts, value, minor);
        break;
      case "connection":
        facts.connection = [...facts.connection, ...parseTokenList(value)];
        break;
      case "upgrade":
        facts.upgrade = facts.upgrade === undefined ? value.toLowerCase() : "";
        break;
      case "expect":
        noteExpectation(facts, value, minor);
        break;
      default:
    }
  }
  return facts;
}

function noteTransferEncoding(facts: FieldFacts, value: string, minor: 0 | 1): void {
  if (minor === 0) throw malformed("Transfer-Encoding in an HTTP/1.0 request");
  if (facts.isChunked) throw malformed("two Transfer-Encoding headers");
  if (value.toLowerCase() !== "chunked") {
    throw malformed("a Transfer-Encoding other than chunked", "HTTP_TRANSFER_CODING_REFUSED");
  }
  facts.isChunked = true;
}

function noteExpectation(facts: FieldFacts, value: string, minor: 0 | 1): void {
  if (value.toLowerCase() !== "100-continue" || facts.expectsContinue) {
    throw malformed("an unknown expectation", "HTTP_EXPECTATION_REFUSED");
  }
  facts.expectsContinue = minor === 1;
}

function framingOf(facts: FieldFacts): Framing {
  if (facts.isChunked) {
    if (facts.contentLength !== undefined)
      throw malformed("Content-Length and Transfer-Encoding together");
    return CHUNKED;
  }
  return facts.contentLength === undefined
    ? NO_BODY
    : { kind: "fixed", bytes: facts.contentLength };
}

/** RFC 6455 §4.1: a GET of HTTP/1.1 with both headers; any other upgrade is ignored, as RFC 9110 §7.8 allows. */
function isUpgrade(line: RequestLine, facts: FieldFacts): boolean {
  if (facts.upgrade !== "websocket" || !facts.connection.includes("upgrade")) return false;
  if (line.minor === 0 || line.method !== "GET")
    throw malformed("a WebSocket upgrade that is not a GET of HTTP/1.1");
  if (facts.isChunked || (facts.contentLength ?? 0) > 0)
    throw malformed("a WebSocket upgrade with a body");
  return true;
}

/**
 * The target in origin form. An absolute target must name the same authority as the Host header:
 * RFC 9112 §3.2.2 lets the target win, but a filter in front may have judged the other one.
 */
function originForm(line: RequestLine, authority: Authority): string {
  const { method, target } = line;
  if (target.startsWith("/")) return target;
  if (target === "*") {
    if (method !== "OPTIONS") throw malformed("the target * with another method than OPTIONS");
    return target;
  }
  const parts = /^https?:\/\/([^/?]+)(.*)$/i.exec(target);
  if (parts === null) throw malformed("a request target that is neither a path nor a URL");
  const [, named = "", rest = ""] = parts;
  if (parseAuthority(named).text !== authority.text) {
    throw malformed("a request target whose authority differs from the Host header");
  }
  if (rest.startsWith("/")) return rest;
  return rest === "" && method === "OPTIONS" ? "*" : `/${rest}`;
}
