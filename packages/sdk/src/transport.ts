import type { ErrorCode, ErrorEnvelope } from "@belljar/protocol";
import { BelljarError, EXEC_SUBPROTOCOL, TOKEN_SUBPROTOCOL_PREFIX } from "@belljar/protocol";

/** What every call of the SDK takes besides its own options. */
export interface CallOptions {
  /** Ends the call; the promise rejects with the signal's reason */
  signal?: AbortSignal | undefined;
}

/** Options of calls that make something: the same key never makes it twice. */
export interface CreateOptions extends CallOptions {
  /** Any text of up to 255 characters, fresh for each thing to be made */
  idempotencyKey?: string | undefined;
}

/** What a body of bytes can be: text, bytes, a Blob, a stream, or anything that yields bytes. */
export type BodySource =
  | string
  | Uint8Array
  | Blob
  | ReadableStream<Uint8Array>
  | AsyncIterable<Uint8Array>;

/** The part of the WebSocket interface that the SDK uses. */
export type WebSocketConstructor = new (
  url: string | URL,
  protocols?: string | string[],
) => WebSocket;

/** How to reach a daemon. */
export interface ConnectionOptions {
  /** Base URL of the daemon, such as `http://127.0.0.1:7070` */
  url: string;
  /** API token, `bj_…` */
  token?: string | undefined;
  /** Replaces the global `fetch` */
  fetch?: typeof fetch | undefined;
  /** Replaces the global `WebSocket`, which Node has from version 22 on */
  WebSocket?: WebSocketConstructor | undefined;
}

/** Values of a query; undefined ones are left out. */
export type Query = Record<string, string | number | boolean | readonly string[] | undefined>;

/** One request, before it is sent. */
export interface RequestSpec extends CreateOptions {
  method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  path: string;
  query?: Query;
  /** Sent as JSON */
  json?: unknown;
  /** Sent as bytes */
  body?: BodySource;
  headers?: Record<string, string>;
}

const ERROR_BODY_CHARS_MAX = 64 * 1024;

/** The SDK's only way to the network: fetch and WebSocket, errors made into BelljarErrors. */
export class Transport {
  readonly #base: string;
  readonly #token: string | undefined;
  readonly #fetch: typeof fetch;
  readonly #WebSocket: WebSocketConstructor | undefined;

  /** @throws BAD_REQUEST when the URL is no http or https URL. */
  constructor(options: ConnectionOptions) {
    if (!URL.canParse(options.url) || !/^https?:/.test(options.url)) {
      throw new BelljarError(
        "BAD_REQUEST",
        `the daemon's URL must be http or https, got ${options.url}`,
      );
    }
    this.#base = options.url.replace(/\/+$/, "");
    this.#token = options.token;
    this.#fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
    const builtIn: unknown = Reflect.get(globalThis, "WebSocket");
    this.#WebSocket = options.WebSocket ?? (isWebSocketConstructor(builtIn) ? builtIn : undefined);
  }

  /** The answer's JSON. @throws every code of the API; DAEMON_UNREACHABLE without an answer. */
  async json<Result>(spec: RequestSpec): Promise<Result> {
    const response = await this.send(spec);
    if (response.status === 204) return undefined as Result;
    // The daemon answers with the protocol's types; the SDK trusts it as the user does.
    return (await this.#guard(spec, () => response.json())) as Result;
  }

  /** The answer itself, when it is 2xx; its body is not read. */
  async send(spec: RequestSpec): Promise<Response> {
    const { url, init } = this.#prepare(spec);
    const response = await this.#guard(spec, () => this.#fetch(url, init));
    if (!response.ok) throw await readError(response);
    return response;
  }

  #prepare(spec: RequestSpec): { url: string; init: RequestInit } {
    const headers: Record<string, string> = { ...spec.headers };
    if (this.#token !== undefined) headers["authorization"] = `Bearer ${this.#token}`;
    if (spec.idempotencyKey !== undefined) headers["idempotency-key"] = spec.idempotencyKey;
    const init: RequestInit & { duplex?: "half" } = { method: spec.method ?? "GET", headers };
    if (spec.signal !== undefined) init.signal = spec.signal;
    if (spec.json !== undefined) {
      headers["content-type"] = "application/json";
      init.body = JSON.stringify(spec.json);
    } else if (spec.body !== undefined) {
      headers["content-type"] ??= "application/octet-stream";
      const body = toBody(spec.body, spec.signal);
      init.body = body;
      if (body instanceof ReadableStream) init.duplex = "half";
    }
    return { url: this.#base + spec.path + queryText(spec.query), init };
  }

  async #guard<Result>(spec: RequestSpec, work: () => Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (error) {
      if (spec.signal?.aborted === true) throw spec.signal.reason;
      const why = error instanceof Error ? describeCause(error) : String(error);
      throw new BelljarError(
        "DAEMON_UNREACHABLE",
        `no answer from ${this.#base}: ${why}`,
        { url: this.#base },
        { cause: error },
      );
    }
  }

  /** An open WebSocket of the exec protocol. The token travels as a subprotocol, as browsers need. */
  openSocket(path: string): WebSocket {
    if (this.#WebSocket === undefined) {
      throw new BelljarError(
        "BAD_REQUEST",
        "this runtime has no global WebSocket: pass one, such as `new Belljar({ …, WebSocket })` with the `ws` package's",
      );
    }
    const protocols: string[] = [EXEC_SUBPROTOCOL];
    if (this.#token !== undefined) protocols.push(TOKEN_SUBPROTOCOL_PREFIX + this.#token);
    const socket = new this.#WebSocket(this.#base.replace(/^http/, "ws") + path, protocols);
    socket.binaryType = "arraybuffer";
    return socket;
  }
}

function isWebSocketConstructor(value: unknown): value is WebSocketConstructor {
  return typeof value === "function";
}

/** fetch says "fetch failed" and hides why in the cause. */
function describeCause(error: Error): string {
  const { cause } = error;
  return cause instanceof Error && cause.message !== "" ? cause.message : error.message;
}

function queryText(query: Query | undefined): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value === undefined) continue;
    if (Array.isArray(value)) for (const one of value) parameters.append(name, String(one));
    else parameters.append(name, String(value));
  }
  const text = parameters.toString();
  return text === "" ? "" : `?${text}`;
}

function toBody(
  source: BodySource,
  signal: AbortSignal | undefined,
): string | Blob | ReadableStream<Uint8Array> | Uint8Array<ArrayBuffer> {
  if (typeof source === "string" || source instanceof Blob || source instanceof ReadableStream)
    return source;
  // fetch takes any bytes; the type of lib.dom only names those that are not shared.
  if (source instanceof Uint8Array) return source as Uint8Array<ArrayBuffer>;
  const iterator = source[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      // Node's fetch goes on reading a body after its call was aborted; an endless one would never end.
      if (signal?.aborted === true) {
        controller.error(signal.reason);
        await iterator.return?.();
        return;
      }
      const next = await iterator.next();
      if (next.done === true) controller.close();
      else controller.enqueue(next.value);
    },
    async cancel() {
      await iterator.return?.();
    },
  });
}

async function readError(response: Response): Promise<BelljarError> {
  const text = (await response.text().catch(() => "")).slice(0, ERROR_BODY_CHARS_MAX);
  const envelope = parseEnvelope(text);
  if (envelope !== undefined) return BelljarError.fromEnvelope(envelope);
  const message = `${response.url} answered with status ${response.status}, which is not an answer of Belljar`;
  const code: ErrorCode = response.status >= 500 ? "DAEMON_UNREACHABLE" : "BAD_REQUEST";
  return new BelljarError(code, message, { status: response.status });
}

function parseEnvelope(text: string): ErrorEnvelope | undefined {
  try {
    const body: unknown = JSON.parse(text);
    return isEnvelope(body) ? body : undefined;
  } catch {
    // Not JSON: an edge in front has answered, not the daemon.
    return undefined;
  }
}

function isEnvelope(body: unknown): body is ErrorEnvelope {
  if (typeof body !== "object" || body === null || !("error" in body)) return false;
  const { error } = body;
  return typeof error === "object" && error !== null && "code" in error && "message" in error;
}
