import { STATUS_CODES } from "node:http";
import type { BelljarError } from "@belljar/protocol";
import { errorPage } from "./pages/index.ts";
import type { RequestHead } from "./wire/index.ts";

/** An answer that the gateway makes itself. */
export interface LocalAnswer {
  readonly status: number;
  readonly body: string;
  readonly contentType: string;
  /** More header lines, by name */
  readonly headers?: Readonly<Record<string, string>>;
}

/** Seconds that a refused visitor is asked to wait, where waiting helps. */
const RETRY_AFTER_S = 5;

/** The answer's bytes as latin1 text; bodies are encoded as UTF-8 inside it. */
export function answerText(
  answer: LocalAnswer,
  facts: { method: string; minor: 0 | 1; keepAlive: boolean },
): string {
  const body = Buffer.from(answer.body, "utf8");
  let lines = `HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status] ?? "Unknown"}\r\n`;
  if (answer.body !== "") lines += `Content-Type: ${answer.contentType}\r\n`;
  if (answer.status !== 204) lines += `Content-Length: ${body.length}\r\n`;
  lines +=
    "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n";
  for (const [name, value] of Object.entries(answer.headers ?? {}))
    lines += `${name}: ${value}\r\n`;
  if (!facts.keepAlive) lines += "Connection: close\r\n";
  else if (facts.minor === 0) lines += "Connection: keep-alive\r\n";
  return facts.method === "HEAD" ? `${lines}\r\n` : `${lines}\r\n${body.toString("latin1")}`;
}

/** The error envelope, for programs. */
export function jsonRefusal(error: BelljarError): LocalAnswer {
  return {
    status: error.status,
    body: `${JSON.stringify(error.toEnvelope())}\n`,
    contentType: "application/json; charset=utf-8",
    headers: reasonHeaders(error),
  };
}

/** A page for browsers, the envelope for everything else. */
export function refusalOf(error: BelljarError, head: RequestHead): LocalAnswer {
  if (!acceptsHtml(head)) return jsonRefusal(error);
  return pageAnswer(error.status, errorPage(error), reasonHeaders(error));
}

/** A page of ours with the headers that keep it to itself. */
export function pageAnswer(
  status: number,
  page: { html: string; policy: string },
  headers: Readonly<Record<string, string>> = {},
): LocalAnswer {
  return {
    status,
    body: page.html,
    contentType: "text/html; charset=utf-8",
    headers: { "Content-Security-Policy": page.policy, ...headers },
  };
}

function reasonHeaders(error: BelljarError): Record<string, string> {
  const cause = error.details?.["reason"];
  const reason = { "X-Belljar-Reason": typeof cause === "string" ? cause : error.code };
  return error.retryable && error.status >= 500
    ? { ...reason, "Retry-After": String(RETRY_AFTER_S) }
    : reason;
}

/** Whether a person looks at the answer in a browser. */
export function acceptsHtml(head: RequestHead): boolean {
  return fieldOf(head, "accept")?.toLowerCase().includes("text/html") ?? false;
}

/** Whether this is a browser going to a page, rather than a script, an image or a program. */
export function isNavigation(head: RequestHead): boolean {
  if (head.method !== "GET" && head.method !== "HEAD") return false;
  const mode = fieldOf(head, "sec-fetch-mode");
  return mode === undefined ? acceptsHtml(head) : mode === "navigate";
}

/** The value of a header that occurs once; undefined when it is missing or repeated. */
export function fieldOf(head: RequestHead, name: string): string | undefined {
  let value: string | undefined;
  for (const field of head.fields) {
    if (field.name !== name) continue;
    if (value !== undefined) return undefined;
    value = field.value;
  }
  return value;
}
