import { BelljarError } from "@belljar/protocol";
import { CR, LF, SPACE, VALUE } from "./characters.ts";
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
  UNTIL_CLOSE,
} from "./fields.ts";

/** One response's head, checked so that what follows cannot be taken for another response. */
export interface ResponseHead {
  readonly status: number;
  readonly reason: string;
  readonly text: string;
  /** Bytes of the head, its blank line included */
  readonly byteCount: number;
  readonly fields: readonly HeadField[];
  readonly framing: Framing;
  /** What Content-Length said, also where no body follows (HEAD, 304) */
  readonly contentLength: number | undefined;
  readonly connection: readonly string[];
  /** Whether the app keeps the connection open for another request */
  readonly keepAlive: boolean;
  /** Lower-case value of Upgrade, joined */
  readonly upgrade: string;
}

/**
 * Reads a response head to a request with `method`. `text` is the head in latin1, every line
 * ending in CRLF, without the final blank line.
 *
 * @throws PREVIEW_BAD_RESPONSE
 */
export function parseResponseHead(text: string, method: string): ResponseHead {
  try {
    return parse(text, method);
  } catch (error) {
    throw badResponse(error);
  }
}

/** The same refusal, told as what the app did instead of what the client did. */
export function badResponse(error: unknown): unknown {
  if (!BelljarError.is(error) || error.code === "PREVIEW_BAD_RESPONSE") return error;
  return new BelljarError("PREVIEW_BAD_RESPONSE", `the app answered with ${error.message}`);
}

function parse(text: string, method: string): ResponseHead {
  const { status, minor, reason, fieldsFrom } = parseStatusLine(text);
  const fields = parseFields(text, fieldsFrom);
  const facts = gatherFacts(fields, minor);
  const { isChunked, contentLength, connection, upgrade } = facts;
  const announcesBody = isChunked || (contentLength ?? 0) > 0;
  if (status < 200 && announcesBody) throw malformed("an interim answer with a body");
  // A 204 that announces a body may be followed by one: nothing behind it can be trusted.
  const keepAlive = staysOpen(minor, connection) && !(status === 204 && announcesBody);
  const framing = framingOf({ status, method, isChunked, contentLength });
  return {
    status,
    reason,
    text,
    byteCount: text.length + 2,
    fields,
    framing,
    contentLength,
    connection,
    keepAlive,
    upgrade,
  };
}

interface FieldFacts {
  contentLength: number | undefined;
  isChunked: boolean;
  connection: readonly string[];
  upgrade: string;
}

function gatherFacts(fields: readonly HeadField[], minor: 0 | 1): FieldFacts {
  const facts: FieldFacts = {
    contentLength: undefined,
    isChunked: false,
    connection: NO_OPTIONS,
    upgrade: "",
  };
  for (const { name, value } of fields) {
    if (name === "content-length") {
      if (facts.contentLength !== undefined) throw malformed("two Content-Length headers");
      facts.contentLength = parseContentLength(value);
    } else if (name === "transfer-encoding") {
      if (facts.isChunked) throw malformed("two Transfer-Encoding headers");
      if (minor === 0) throw malformed("Transfer-Encoding in an HTTP/1.0 response");
      if (value.toLowerCase() !== "chunked")
        throw malformed("a Transfer-Encoding other than chunked");
      facts.isChunked = true;
    } else if (name === "connection") {
      facts.connection = [...facts.connection, ...parseTokenList(value)];
    } else if (name === "upgrade") {
      facts.upgrade = facts.upgrade === "" ? value.toLowerCase() : `${facts.upgrade},${value}`;
    }
  }
  if (facts.isChunked && facts.contentLength !== undefined)
    throw malformed("Content-Length and Transfer-Encoding together");
  return facts;
}

/** RFC 9112 §6.3, in its order. */
function framingOf(facts: {
  status: number;
  method: string;
  isChunked: boolean;
  contentLength: number | undefined;
}): Framing {
  const { status, method, isChunked, contentLength } = facts;
  if (method === "HEAD" || status < 200 || status === 204 || status === 304) return NO_BODY;
  if (isChunked) return CHUNKED;
  if (contentLength === undefined) return UNTIL_CLOSE;
  return contentLength === 0 ? NO_BODY : { kind: "fixed", bytes: contentLength };
}

function parseStatusLine(text: string): {
  status: number;
  minor: 0 | 1;
  reason: string;
  fieldsFrom: number;
} {
  if (!text.startsWith("HTTP/1.1 ") && !text.startsWith("HTTP/1.0 "))
    throw malformed("no HTTP/1 status line");
  const status = Number(/^[1-5][0-9]{2}$/.exec(text.slice(9, 12))?.[0] ?? 0);
  if (status === 0) throw malformed("an invalid status code");
  let at = 12;
  let code = text.charCodeAt(at);
  // The space before an empty reason is often left out; nothing can be mistaken by it.
  if (code === SPACE) code = text.charCodeAt(++at);
  else if (code !== CR) throw malformed("an invalid status code");
  const reasonFrom = at;
  while (VALUE[code] === 1) code = text.charCodeAt(++at);
  if (code !== CR || text.charCodeAt(at + 1) !== LF) throw malformed("an invalid status line");
  return {
    status,
    minor: text.charAt(7) === "1" ? 1 : 0,
    reason: text.slice(reasonFrom, at),
    fieldsFrom: at + 2,
  };
}
