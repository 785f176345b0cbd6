import { BelljarError, type ErrorCode } from "@belljar/protocol";
import { COLON, CR, LF, SPACE, TAB, TOKEN, VALUE } from "./characters.ts";

/** Header fields of one head. */
export const FIELD_COUNT_MAX = 100;
/** Bytes of one head, its blank line included. */
export const HEAD_BYTES_MAX = 32 * 1024;
/** Digits of a Content-Length: 15 stay below 2^53. */
const CONTENT_LENGTH_DIGITS_MAX = 15;

/** One header line of a head; `from` and `to` are its place in the head's text, its CRLF included. */
export interface HeadField {
  /** Name in lower case */
  readonly name: string;
  /** Value without surrounding white space */
  readonly value: string;
  readonly from: number;
  readonly to: number;
}

/** How a message's body ends. */
export type Framing =
  | { readonly kind: "none" }
  | { readonly kind: "fixed"; readonly bytes: number }
  | { readonly kind: "chunked" }
  | { readonly kind: "close" };

export const NO_BODY: Framing = { kind: "none" };
export const CHUNKED: Framing = { kind: "chunked" };
export const UNTIL_CLOSE: Framing = { kind: "close" };

export const NO_OPTIONS: readonly string[] = [];

/** The refusal of a message that is not valid HTTP/1.1; `what` names the violation, never the bytes. */
export function malformed(what: string, code: ErrorCode = "HTTP_MALFORMED"): BelljarError {
  return new BelljarError(code, what);
}

/**
 * Reads header lines from `text[from…]`, every one ending in CRLF; the blank line that ends the
 * head is not part of `text`. Refuses what two parsers might read differently: white space before
 * the colon, folded lines, bare CR or LF, control characters, empty names.
 *
 * @throws HTTP_MALFORMED, HTTP_HEAD_TOO_LARGE
 */
export function parseFields(text: string, from: number): HeadField[] {
  const fields: HeadField[] = [];
  let at = from;
  while (at < text.length) {
    if (fields.length === FIELD_COUNT_MAX) {
      throw malformed(`more than ${FIELD_COUNT_MAX} header fields`, "HTTP_HEAD_TOO_LARGE");
    }
    const lineFrom = at;
    let code = text.charCodeAt(at);
    while (TOKEN[code] === 1) code = text.charCodeAt(++at);
    if (code !== COLON || at === lineFrom) throw brokenName(code, at === lineFrom);
    const name = lowerName(text.slice(lineFrom, at));
    code = text.charCodeAt(++at);
    while (code === SPACE || code === TAB) code = text.charCodeAt(++at);
    const valueFrom = at;
    let valueTo = at;
    while (VALUE[code] === 1) {
      at += 1;
      if (code !== SPACE && code !== TAB) valueTo = at;
      code = text.charCodeAt(at);
    }
    if (code !== CR || text.charCodeAt(at + 1) !== LF) throw brokenValue(name, code);
    at += 2;
    fields.push({ name, value: text.slice(valueFrom, valueTo), from: lineFrom, to: at });
  }
  return fields;
}

/** Header names seen, as they were spelled, and in lower case. */
const lowerNames = new Map<string, string>();
const LOWER_NAMES_MAX = 2_048;

function lowerName(spelled: string): string {
  const known = lowerNames.get(spelled);
  if (known !== undefined) return known;
  if (lowerNames.size >= LOWER_NAMES_MAX) lowerNames.clear();
  const own = detached(spelled);
  const lower = own.toLowerCase();
  lowerNames.set(own, lower);
  return lower;
}

/** A copy: a slice that is remembered would keep the whole head that it was cut from. */
export function detached(slice: string): string {
  return Buffer.from(slice, "latin1").toString("latin1");
}

function brokenName(code: number, atLineStart: boolean): BelljarError {
  if (code === SPACE || code === TAB) {
    return malformed(
      atLineStart ? "a folded header line" : "white space in or after a header name",
    );
  }
  return malformed(
    atLineStart && code === COLON ? "an empty header name" : "an invalid header name",
  );
}

function brokenValue(name: string, code: number): BelljarError {
  if (code === LF) return malformed(`a bare LF in header ${name}`);
  if (code === CR) return malformed(`a bare CR in header ${name}`);
  return malformed(`a control character in header ${name}`);
}

/** The number of a Content-Length; digits only, no list, no sign. @throws HTTP_MALFORMED */
export function parseContentLength(value: string): number {
  if (!/^[0-9]+$/.test(value)) throw malformed("a Content-Length that is not a number");
  if (value.length > CONTENT_LENGTH_DIGITS_MAX) throw malformed("a Content-Length out of range");
  return Number(value);
}

/** The lower-case options of a Connection header (or of any list of tokens). @throws HTTP_MALFORMED */
export function parseTokenList(value: string): string[] {
  const tokens: string[] = [];
  for (const part of value.split(",")) {
    const token = part.trim().toLowerCase();
    if (token === "") continue;
    if (!isToken(token)) throw malformed("a Connection option that is not a token");
    tokens.push(token);
  }
  return tokens;
}

/** Whether a message with these Connection options leaves its connection open (RFC 9112 §9.3). */
export function staysOpen(minor: 0 | 1, connection: readonly string[]): boolean {
  if (connection.includes("close")) return false;
  return minor === 1 || connection.includes("keep-alive");
}

/** Whether `text` is one non-empty token. */
export function isToken(text: string): boolean {
  if (text === "") return false;
  for (let at = 0; at < text.length; at += 1) {
    if (TOKEN[text.charCodeAt(at)] !== 1) return false;
  }
  return true;
}

const HEAD_END = Buffer.from("\r\n\r\n", "latin1");

/**
 * Where the head that starts at `from` ends (the index after its blank line), or -1 while it is
 * incomplete. An incomplete head that can only become invalid, or too large, is refused at once
 * instead of holding the connection until the time is up.
 *
 * @throws HTTP_MALFORMED, HTTP_HEAD_TOO_LARGE
 */
export function findHeadEnd(bytes: Buffer, from: number): number {
  const found = bytes.indexOf(HEAD_END, from);
  const end = found === -1 ? -1 : found + HEAD_END.length;
  if ((end === -1 ? bytes.length : end) - from > HEAD_BYTES_MAX) {
    throw malformed(`a head larger than ${HEAD_BYTES_MAX} bytes`, "HTTP_HEAD_TOO_LARGE");
  }
  if (end === -1) refuseBareLineEnds(bytes, from);
  return end;
}

function refuseBareLineEnds(bytes: Buffer, from: number): void {
  for (let at = bytes.indexOf(LF, from); at !== -1; at = bytes.indexOf(LF, at + 1)) {
    if (at === from || bytes[at - 1] !== CR) throw malformed("a bare LF");
  }
}
