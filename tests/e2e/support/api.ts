import http from "node:http";
import type {
  CreateSandboxRequest,
  ErrorEnvelope,
  ExecRequestBody,
  ExecResult,
  Sandbox,
} from "@belljar/protocol";

/** One answer of the daemon, read whole. */
export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
  /** Milliseconds from the first byte sent to the answer's head */
  readonly headMs: number;
}

/** What a request may carry. */
export interface CallOptions {
  readonly body?: unknown;
  readonly raw?: Buffer | string;
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
}

/** The daemon refused or failed: its status and its envelope. */
export class ApiFailure extends Error {
  readonly status: number;
  readonly code: string;
  readonly envelope: ErrorEnvelope | undefined;

  constructor(what: string, answer: Answer) {
    const envelope = parseEnvelope(answer.body);
    const said = envelope?.error.message ?? answer.body.toString().slice(0, 500);
    super(`${what}: ${answer.status} ${envelope?.error.code ?? ""} ${said}`);
    this.status = answer.status;
    this.code = envelope?.error.code ?? "";
    this.envelope = envelope;
  }
}

function parseEnvelope(body: Buffer): ErrorEnvelope | undefined {
  try {
    const value = JSON.parse(body.toString()) as Partial<ErrorEnvelope>;
    return value.error === undefined ? undefined : (value as ErrorEnvelope);
  } catch {
    return undefined;
  }
}

/**
 * The API as a plain keep-alive HTTP client sees it. Tests and benches use it where the SDK would
 * hide what they look at: exact bytes, statuses, connections.
 */
export class Api implements Disposable {
  readonly url: string;
  readonly token: string;
  readonly #agent: http.Agent;

  constructor(url: string, token: string) {
    this.url = url;
    this.token = token;
    this.#agent = new http.Agent({ keepAlive: true, maxSockets: 256 });
  }

  /** One request; the answer whatever its status. */
  call(method: string, path: string, options: CallOptions = {}): Promise<Answer> {
    const json = options.body === undefined ? undefined : JSON.stringify(options.body);
    const payload = options.raw ?? json;
    const headers: Record<string, string> = {
      ...(this.token === "" ? {} : { authorization: `Bearer ${this.token}` }),
      ...(json === undefined ? {} : { "content-type": "application/json" }),
      ...(payload === undefined ? {} : { "content-length": String(Buffer.byteLength(payload)) }),
      ...options.headers,
    };
    const { signal } = options;
    return new Promise((resolve, reject) => {
      const startedMs = performance.now();
      const request = http.request(
        `${this.url}${path}`,
        { method, headers, agent: this.#agent, ...(signal === undefined ? {} : { signal }) },
        (response) => {
          const headMs = performance.now() - startedMs;
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.on("error", reject);
          response.on("end", () =>
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              body: Buffer.concat(chunks),
              headMs,
            }),
          );
        },
      );
      request.on("error", reject);
      request.end(payload);
    });
  }

  /** One request whose answer must be 2xx, parsed as JSON. */
  async json<Value>(method: string, path: string, options: CallOptions = {}): Promise<Value> {
    const answer = await this.call(method, path, options);
    if (answer.status < 200 || answer.status > 299)
      throw new ApiFailure(`${method} ${path}`, answer);
    return (answer.body.length === 0 ? undefined : JSON.parse(answer.body.toString())) as Value;
  }

  /** `POST /v1/sandboxes` */
  create(request: CreateSandboxRequest = {}): Promise<Sandbox> {
    return this.json<Sandbox>("POST", "/v1/sandboxes", { body: request });
  }

  /** `GET /v1/sandboxes/{id}` */
  get(id: string): Promise<Sandbox> {
    return this.json<Sandbox>("GET", `/v1/sandboxes/${id}`);
  }

  /** Every sandbox, page after page. */
  async list(): Promise<Sandbox[]> {
    const found: Sandbox[] = [];
    let query = "limit=1000";
    for (;;) {
      const page = await this.json<{ items: Sandbox[]; nextCursor: string | null }>(
        "GET",
        `/v1/sandboxes?${query}`,
      );
      found.push(...page.items);
      if (page.nextCursor === null) return found;
      query = `limit=1000&cursor=${encodeURIComponent(page.nextCursor)}`;
    }
  }

  /** `POST /v1/sandboxes/{id}/exec` */
  exec(
    id: string,
    command: ExecRequestBody["command"],
    options: Omit<ExecRequestBody, "command"> = {},
  ): Promise<ExecResult> {
    return this.json<ExecResult>("POST", `/v1/sandboxes/${id}/exec`, {
      body: { command, ...options },
    });
  }

  /** `POST /v1/sandboxes/{id}/freeze|stop|wake` */
  move(id: string, verb: "freeze" | "stop" | "wake"): Promise<Sandbox> {
    return this.json<Sandbox>("POST", `/v1/sandboxes/${id}/${verb}`);
  }

  /** `DELETE /v1/sandboxes/{id}` */
  async destroy(id: string): Promise<void> {
    await this.json("DELETE", `/v1/sandboxes/${id}`);
  }

  /** `PUT …/files/content` */
  async write(id: string, path: string, data: Buffer | string, query = ""): Promise<void> {
    await this.json(
      "PUT",
      `/v1/sandboxes/${id}/files/content?path=${encodeURIComponent(path)}${query}`,
      {
        raw: data,
        headers: { "content-type": "application/octet-stream" },
      },
    );
  }

  /** `GET …/files/content` */
  async read(id: string, path: string): Promise<Buffer> {
    const route = `/v1/sandboxes/${id}/files/content?path=${encodeURIComponent(path)}`;
    const answer = await this.call("GET", route);
    if (answer.status !== 200) throw new ApiFailure(`GET ${route}`, answer);
    return answer.body;
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}
