import { confineSetCookie, setsOwnCookie, stripCookies } from "./cookies.ts";
import type { RequestHead, ResponseHead } from "./wire/index.ts";

/** What decides how a head is rewritten on its way to the app or to the API. */
export interface ForwardFacts {
  readonly kind: "preview" | "api";
  /** `http` or `https`, as the client sees it */
  readonly protocol: string;
  /** The client's address, after trusted proxies */
  readonly address: string;
  /** Set when the app sees this host instead of the public one */
  readonly localHost: string | undefined;
}

/** How the answer's body is framed towards the client. */
export type ClientFraming = "as-length" | "chunked" | "until-close" | "none";

const KEEP = 0;
const DROP = 1;
const COOKIE = 2;
const CREDENTIAL = 3;
const ORIGIN = 4;
const LOCATION = 5;
const CLEAR_SITE_DATA = 6;
/** Ours to say: never taken from clients or apps, but from the API */
const OURS = 7;
type Action = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7;

const HOP_BY_HOP = [
  "connection",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
  "content-length",
];

/** Names that say who the client is; only we may say that, whatever the spelling (`_` and `.` fold to `-` in many servers). */
const IDENTITY =
  /^(x-belljar-|x-forwarded-|x-auth-request-|forwarded$|x-real-ip$|remote-user$|x-remote-user$)/;
const PROXY_CREDENTIALS = new Set(["proxy-authorization", "proxy-authentication-info"]);

const REQUEST_ACTIONS = new Map<string, Action>([
  ...[...HOP_BY_HOP, "host"].map((name): [string, Action] => [name, DROP]),
  ["cookie", COOKIE],
  ["authorization", CREDENTIAL],
  ["x-api-key", CREDENTIAL],
  ["origin", ORIGIN],
]);

const RESPONSE_ACTIONS = new Map<string, Action>([
  ...HOP_BY_HOP.map((name): [string, Action] => [name, DROP]),
  ["set-cookie", COOKIE],
  ["location", LOCATION],
  ["clear-site-data", CLEAR_SITE_DATA],
  // An alternative service would take the visitor's next requests past this gateway.
  ["alt-svc", DROP],
]);

const REMEMBERED_NAMES_MAX = 2_048;

/** How the lines of one side's messages are judged and rewritten. */
interface Side {
  readonly actions: ReadonlyMap<string, Action>;
  readonly remembered: Map<string, Action>;
  /** The value that goes on, or undefined where the line does not */
  rewrite(
    action: Action,
    value: string,
    request: Pick<RequestHead, "authority">,
    facts: ForwardFacts,
  ): string | undefined;
}

const TO_APP: Side = {
  actions: REQUEST_ACTIONS,
  remembered: new Map(),
  rewrite: rewrittenRequestValue,
};
const TO_CLIENT: Side = {
  actions: RESPONSE_ACTIONS,
  remembered: new Map(),
  rewrite: rewrittenResponseValue,
};

function actionOf(name: string, side: Side): Action {
  const cached = side.remembered.get(name);
  if (cached !== undefined) return cached;
  const action = judgeName(name, side.actions);
  if (side.remembered.size >= REMEMBERED_NAMES_MAX) side.remembered.clear();
  side.remembered.set(name, action);
  return action;
}

function judgeName(name: string, known: ReadonlyMap<string, Action>): Action {
  const folded = name.replaceAll(/[_.]/g, "-");
  if (IDENTITY.test(folded) || PROXY_CREDENTIALS.has(folded)) return OURS;
  // An alias such as `transfer_encoding` is dropped like its original: some servers read both as one.
  const isAlias = folded !== name && REQUEST_ACTIONS.has(folded);
  return isAlias ? DROP : (known.get(name) ?? KEEP);
}

/** The header lines of a message that go on, byte for byte where nothing in them changes. */
function keptLines(
  message: RequestHead | ResponseHead,
  side: Side,
  request: Pick<RequestHead, "authority">,
  facts: ForwardFacts,
): string {
  const { text, fields, connection } = message;
  const extra = nominated(connection);
  let kept = "";
  let runFrom = fields[0]?.from ?? 0;
  let runTo = runFrom;
  for (const { name, value, to } of fields) {
    const action = extra?.has(name) ? DROP : actionOf(name, side);
    const rewritten = action === KEEP ? value : side.rewrite(action, value, request, facts);
    if (rewritten !== value) {
      kept += text.slice(runFrom, runTo);
      if (rewritten !== undefined) kept += `${name}: ${rewritten}\r\n`;
      runFrom = to;
    }
    runTo = to;
  }
  return kept + text.slice(runFrom, runTo);
}

const USUAL_OPTIONS = new Set(["close", "keep-alive", "upgrade"]);

/** The headers that a Connection header makes hop-by-hop. */
function nominated(connection: readonly string[]): ReadonlySet<string> | undefined {
  if (connection.length === 0) return undefined;
  const names = connection.filter((option) => !USUAL_OPTIONS.has(option));
  return names.length === 0 ? undefined : new Set(names);
}

/**
 * The head that goes to the app (or the API): the client's lines byte for byte, less what is ours,
 * hop-by-hop or forged, plus Host, X-Forwarded-* and the framing. Ends in the blank line.
 */
export function requestHeadText(head: RequestHead, facts: ForwardFacts): string {
  const host = facts.localHost ?? head.authority.text;
  const kept = keptLines(head, TO_APP, head, facts);
  const forwarded = `X-Forwarded-For: ${facts.address}\r\nX-Forwarded-Host: ${head.authority.text}\r\nX-Forwarded-Proto: ${facts.protocol}\r\n`;
  return `${head.method} ${head.target} HTTP/1.1\r\nHost: ${host}\r\n${kept}${forwarded}${requestFraming(head)}\r\n`;
}

function requestFraming(head: RequestHead): string {
  if (head.isWebSocketUpgrade) return "Connection: Upgrade\r\nUpgrade: websocket\r\n";
  if (head.framing.kind === "fixed") return `Content-Length: ${head.framing.bytes}\r\n`;
  return head.framing.kind === "chunked" ? "Transfer-Encoding: chunked\r\n" : "";
}

/** The value that goes on, or undefined where the line does not. The API reads its own credentials. */
function rewrittenRequestValue(
  action: Action,
  value: string,
  head: Pick<RequestHead, "authority">,
  facts: ForwardFacts,
): string | undefined {
  if (action === DROP || action === OURS) return undefined;
  if (facts.kind === "api") return value;
  switch (action) {
    case COOKIE: {
      const stripped = stripCookies(value);
      return stripped === "" && value !== "" ? undefined : stripped;
    }
    case CREDENTIAL:
      return /^(?:[a-z]+\s+)?bj[a-z]*_/i.test(value) ? undefined : value;
    case ORIGIN:
      if (facts.localHost === undefined) return value;
      return value.toLowerCase() === `${facts.protocol}://${head.authority.text}`
        ? `http://${facts.localHost}`
        : value;
    default:
      return value;
  }
}

/** How to answer this client: its version, whether its connection stays open, and the body's framing. */
export interface AnswerFacts {
  readonly minor: 0 | 1;
  readonly keepAlive: boolean;
  readonly framing: ClientFraming;
}

/** The head that goes to the client: the app's lines byte for byte, less what is hop-by-hop or not its to say. */
export function responseHeadText(
  response: ResponseHead,
  request: Pick<RequestHead, "authority">,
  facts: ForwardFacts,
  answer: AnswerFacts,
): string {
  const kept = keptLines(response, TO_CLIENT, request, facts);
  return `HTTP/1.1 ${response.status} ${response.reason}\r\n${kept}${answerFraming(response, answer)}\r\n`;
}

function rewrittenResponseValue(
  action: Action,
  value: string,
  request: Pick<RequestHead, "authority">,
  facts: ForwardFacts,
): string | undefined {
  if (action === DROP) return undefined;
  if (facts.kind === "api") return value;
  if (action === OURS) return undefined;
  const { authority } = request;
  switch (action) {
    case COOKIE:
      return setsOwnCookie(value) ? undefined : confineSetCookie(value, authority.host);
    case LOCATION: {
      const local = facts.localHost === undefined ? undefined : `http://${facts.localHost}`;
      if (local === undefined || !(value === local || value.startsWith(`${local}/`))) return value;
      return `${facts.protocol}://${authority.text}${value.slice(local.length)}`;
    }
    case CLEAR_SITE_DATA:
      // `cookies` clears the whole registrable domain: the API's and every other sandbox's.
      return /"(cookies|\*)"/i.test(value) ? undefined : value;
    default:
      return value;
  }
}

function answerFraming(response: ResponseHead, answer: AnswerFacts): string {
  const connection = answer.keepAlive
    ? answer.minor === 0
      ? "Connection: keep-alive\r\n"
      : ""
    : "Connection: close\r\n";
  if (answer.framing === "chunked") return `Transfer-Encoding: chunked\r\n${connection}`;
  const length = response.contentLength;
  // 1xx and 204 must not carry a length (RFC 9110 §8.6); to HEAD and in a 304 it tells the other body's.
  if (
    length === undefined ||
    answer.framing === "until-close" ||
    response.status < 200 ||
    response.status === 204
  ) {
    return connection;
  }
  return `Content-Length: ${length}\r\n${connection}`;
}

/** The head of a 101 or another interim answer, with the upgrade's own headers put back. */
export function interimHeadText(
  response: ResponseHead,
  request: Pick<RequestHead, "authority">,
  facts: ForwardFacts,
): string {
  const text = responseHeadText(response, request, facts, {
    minor: 1,
    keepAlive: true,
    framing: "none",
  });
  if (response.status !== 101) return text;
  return `${text.slice(0, -2)}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`;
}
