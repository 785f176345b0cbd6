import type { Duplex } from "node:stream";
import { once } from "node:events";
import { Readable } from "node:stream";
import { afterEach, describe, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import type { HttpApi } from "./api.ts";
import { connectTo, fakeApi, ID, readAll, TOKENS } from "./testing/fake-services.ts";

const EXEC = `/v1/sandboxes/${ID}/exec/stream`;
const started: HttpApi[] = [];
afterEach(async () => {
  for (const api of started.splice(0)) await api[Symbol.asyncDispose]();
});

async function build(overrides: Parameters<typeof fakeApi>[0] = {}) {
  const fake = await fakeApi(overrides);
  started.push(fake.api);
  return fake;
}

/** An HTTP request over a stream of the gateway. */
function send(api: HttpApi, path: string, headers: string[] = []): Duplex {
  const stream = connectTo(api);
  const lines = ["Host: localhost", "Authorization: Bearer bj_admin", ...headers];
  stream.write(`GET ${path} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
  return stream;
}

describe("server-sent events", () => {
  const eventAt = (id: number) => ({
    id,
    at: "2026-01-31T12:00:00.000Z",
    type: "sandbox.state",
    sandboxId: ID,
    data: {},
  });

  test("each has its id, and Last-Event-ID wins over ?since", async () => {
    const sinces: number[] = [];
    const events = {
      newestId: 41,
      async *stream(since: number) {
        sinces.push(since);
        yield eventAt(since + 1);
      },
    };
    const { api } = await build({ events });
    const head = "Connection: close";
    const text = await readAll(send(api, "/v1/events", [head]));
    expect(text).toContain("content-type: text/event-stream");
    expect(text).toContain("id: 42\nevent: sandbox.state\ndata: {");
    await readAll(send(api, "/v1/events?since=7", [head]));
    await readAll(send(api, "/v1/events?since=7", [head, "Last-Event-ID: 9"]));
    expect(sinces).toEqual([41, 7, 9]);
    for (const bad of ["Last-Event-ID: x", "Last-Event-ID: -1", "Last-Event-ID: 1e3"]) {
      expect(await readAll(send(api, "/v1/events", [head, bad]))).toContain("BAD_REQUEST");
    }
    expect(await readAll(send(api, "/v1/events?since=-1", [head]))).toContain("BAD_REQUEST");
  });

  test("a reader that lags holds the source back, and its leaving ends the source", async () => {
    let produced = 0;
    const ended = Promise.withResolvers<void>();
    const events = {
      newestId: 0,
      async *stream(_since: number, { signal }: { signal: AbortSignal }) {
        try {
          while (!signal.aborted) {
            produced += 1;
            yield { ...eventAt(produced), data: { text: "x".repeat(1000) } };
          }
        } finally {
          ended.resolve();
        }
      },
    };
    const { api } = await build({ events });
    const stream = send(api, "/v1/events");
    stream.pause();
    await vi.waitFor(() => expect(produced).toBeGreaterThan(5));
    const before = produced;
    // Nothing reads: the event loop turns often, and the source is not asked again.
    for (let turn = 0; turn < 100; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(produced - before).toBeLessThan(50);
    expect(produced).toBeLessThan(500);
    stream.destroy();
    await ended.promise;
  });

  test("a source that fails says so as its last event, and draining ends streams", async () => {
    const failing = {
      newestId: 0,
      async *stream() {
        yield eventAt(1);
        throw new TypeError("secret detail");
      },
    };
    const { api } = await build({ events: failing });
    const text = await readAll(send(api, "/v1/events", ["Connection: close"]));
    expect(text).toContain('event: error\ndata: {"code":"INTERNAL"');
    expect(text).not.toContain("secret detail");
    const waiting = {
      newestId: 0,
      async *stream(_since: number, { signal }: { signal: AbortSignal }) {
        if (!signal.aborted) await once(signal, "abort");
        yield* [];
      },
    };
    const second = await build({ events: waiting });
    const stream = send(second.api, "/v1/events", ["Connection: close"]);
    let rest = "";
    stream.on("data", (chunk: Buffer) => (rest += chunk.toString("utf8")));
    await vi.waitFor(() => expect(rest).toContain("retry:"));
    second.api.drain();
    await once(stream, "end");
    expect(rest).not.toContain("event: error");
  });
});

/** Tokens that can be ended while they are in use. */
function endable() {
  const endings = new Set<() => void>();
  const whenEnded = (_identity: unknown, ended: () => void) => {
    endings.add(ended);
    return { [Symbol.dispose]: () => endings.delete(ended) };
  };
  const verify = (token: string) => Promise.resolve(TOKENS[token]);
  return { tokens: { verify, whenEnded }, endings };
}

describe("the end of a token", () => {
  test("ends an event stream, and says why", async () => {
    const { tokens, endings } = endable();
    const events = {
      newestId: 0,
      async *stream(_since: number, { signal }: { signal: AbortSignal }) {
        if (!signal.aborted) await once(signal, "abort");
        yield* [];
      },
    };
    const { api } = await build({ events, tokens });
    const stream = send(api, "/v1/events", ["Connection: close"]);
    let text = "";
    stream.on("data", (chunk: Buffer) => (text += chunk.toString("utf8")));
    await vi.waitFor(() => expect(text).toContain("retry:"));
    for (const end of endings) end();
    await once(stream, "end");
    expect(text).toContain('event: error\ndata: {"code":"UNAUTHENTICATED"');
    expect(endings.size).toBe(0);
  });

  test("ends a download that its reader draws out", async () => {
    const { tokens, endings } = endable();
    const body = new Readable({ read: () => undefined });
    body.push("first");
    const sandboxes = {
      guest: () =>
        Promise.resolve({
          readFile: () => Promise.resolve({ stat: { size: 10, mode: 0o644 }, body }),
        }),
      commandDefaults: () => Promise.resolve({ user: "user" }),
      opened: () => undefined,
      closed: () => undefined,
      freeze: () => undefined,
      stop: () => undefined,
    };
    const { api } = await build({ tokens, sandboxes });
    const stream = send(api, `/v1/sandboxes/${ID}/files/content?path=/x`);
    let text = "";
    stream.on("data", (chunk: Buffer) => (text += chunk.toString("utf8")));
    stream.on("error", () => undefined);
    await vi.waitFor(() => expect(text).toContain("first"));
    for (const end of endings) end();
    if (!stream.closed) await once(stream, "close");
    // The last chunk never came: the client knows that the file is cut.
    expect(text.endsWith("0\r\n\r\n")).toBe(false);
    await vi.waitFor(() => expect(endings.size).toBe(0));
  });

  test("ends a command's WebSocket and its command, and takes no more input", async () => {
    const { tokens, endings } = endable();
    let isClosed = false;
    const inputs: string[] = [];
    const session = {
      pid: 7,
      output: new Readable({ objectMode: true, read: () => undefined }),
      exited: new Promise(() => undefined),
      writeStdin: async (data: Uint8Array) => void inputs.push(Buffer.from(data).toString()),
      close: () => {
        isClosed = true;
      },
    };
    const { api } = await build({
      tokens,
      sandboxes: {
        get: () => Promise.resolve({}),
        guest: () => Promise.resolve({ exec: () => Promise.resolve(session) }),
        commandDefaults: () => Promise.resolve({ env: {}, user: "user", cwd: "/" }),
        busy: () => ({ [Symbol.dispose]: () => undefined }),
        opened: () => undefined,
        closed: () => undefined,
        touch: () => undefined,
        freeze: () => undefined,
        stop: () => undefined,
      },
    });
    const socket = new WebSocket(`ws://localhost${EXEC}`, ["belljar.exec.v1"], {
      headers: { authorization: "Bearer bj_operate" },
      createConnection: () => connectTo(api) as never,
    });
    await once(socket, "open");
    socket.send(JSON.stringify({ type: "start", command: "cat", stdin: true }));
    await once(socket, "message");
    socket.send(Buffer.from("\0before"));
    await vi.waitFor(() => expect(inputs).toEqual(["before"]));
    for (const end of endings) end();
    socket.send(Buffer.from("\0after"));
    const [code, reason] = (await once(socket, "close")) as [number, Buffer];
    expect([code, reason.toString()]).toEqual([1008, "UNAUTHENTICATED"]);
    expect(isClosed).toBe(true);
    expect(inputs).toEqual(["before"]);
    await vi.waitFor(() => expect(endings.size).toBe(0));
  });
});

describe("WebSockets", () => {
  /** A client of `ws` over a stream of the gateway. */
  function open(
    api: HttpApi,
    path: string,
    options: { protocols?: string[]; headers?: Record<string, string> } = {},
  ) {
    const { protocols = ["belljar.exec.v1"], headers = { authorization: "Bearer bj_operate" } } =
      options;
    return new WebSocket(`ws://localhost${path}`, protocols, {
      headers,
      createConnection: () => connectTo(api) as never,
    });
  }

  async function refusal(socket: WebSocket): Promise<{ status: number | undefined; code: string }> {
    const [, response] = (await once(socket, "unexpected-response")) as [
      unknown,
      AsyncIterable<Buffer> & { statusCode?: number },
    ];
    let text = "";
    for await (const chunk of response) text += chunk.toString();
    return {
      status: response.statusCode,
      code: (JSON.parse(text) as { error: { code: string } }).error.code,
    };
  }

  async function talk(
    socket: WebSocket,
    messages: (string | Buffer)[],
  ): Promise<{ received: string[]; closeCode: number }> {
    const received: string[] = [];
    socket.on("message", (data, isBinary) => {
      received.push(
        isBinary
          ? `${(data as Buffer)[0]}:${(data as Buffer).subarray(1).toString()}`
          : String(data as Buffer),
      );
    });
    await once(socket, "open");
    for (const message of messages) socket.send(message);
    const [closeCode] = (await once(socket, "close")) as [number];
    return { received, closeCode };
  }

  test.for([
    ["no token", EXEC, { headers: {} }, 401, "UNAUTHENTICATED"],
    ["an unknown token", EXEC, { headers: { authorization: "Bearer x" } }, 401, "UNAUTHENTICATED"],
    [
      "a token that may only read",
      EXEC,
      { headers: { authorization: "Bearer bj_read" } },
      403,
      "FORBIDDEN",
    ],
    [
      "two tokens",
      EXEC,
      { protocols: ["belljar.exec.v1", "belljar.token.bj_admin"] },
      401,
      "UNAUTHENTICATED",
    ],
    [
      "two tokens as subprotocols",
      EXEC,
      { headers: {}, protocols: ["belljar.token.bj_admin", "belljar.token.bj_read"] },
      401,
      "UNAUTHENTICATED",
    ],
    [
      "another site's page",
      EXEC,
      { headers: { authorization: "Bearer bj_admin", origin: "https://evil.example" } },
      403,
      "ORIGIN_REFUSED",
    ],
    [
      "another host",
      EXEC,
      { headers: { authorization: "Bearer bj_admin", host: "evil.example" } },
      421,
      "HOST_REFUSED",
    ],
    ["an unknown path", "/v1/status", {}, 404, "ROUTE_NOT_FOUND"],
    ["an id that is none", "/v1/sandboxes/x%2Fy/exec/stream", {}, 400, "BAD_REQUEST"],
    [
      "an unknown sandbox",
      "/v1/sandboxes/zzzzzzzzzzzzzzzzzzzz/exec/stream",
      {},
      404,
      "SANDBOX_NOT_FOUND",
    ],
  ] as [string, string, Parameters<typeof open>[2], number, string][])(
    "%s is refused before the upgrade",
    async ([, path, options, status, code]) => {
      const { api } = await build();
      expect(await refusal(open(api, path, options))).toEqual({ status, code });
    },
  );

  test("a token as a subprotocol lets in and is not echoed", async () => {
    const { api } = await build();
    const socket = open(api, EXEC, {
      headers: {},
      protocols: ["belljar.exec.v1", "belljar.token.bj_operate"],
    });
    const { received, closeCode } = await talk(socket, [
      JSON.stringify({ type: "start", command: ["a", "b"] }),
    ]);
    expect(socket.protocol).toBe("belljar.exec.v1");
    expect(received.map((text) => text.slice(0, 22))).toEqual([
      '{"type":"started","pid',
      "1:a b",
      '{"type":"exit","exitCo',
    ]);
    expect(closeCode).toBe(1000);
  });

  test.for([
    ["input before start", Buffer.from([0, 65]), "BAD_REQUEST"],
    ["a message that is not JSON", "{", "BAD_REQUEST"],
    ["an unknown type", '{"type":"stop"}', "BAD_REQUEST"],
    ["a start with a bad field", '{"type":"start","command":[]}', "message.command"],
    [
      "an environment name with =",
      '{"type":"start","command":"x","env":{"A=":"1"}}',
      "message.env",
    ],
    ["a wrong channel", Buffer.from([7, 65]), "begins with 0"],
    ["an empty binary message", Buffer.alloc(0), "begins with 0"],
  ] as [string, string | Buffer, string][])(
    "%s is answered with an error and closed",
    async ([, message, named]) => {
      const { api, calls } = await build();
      const { received, closeCode } = await talk(open(api, EXEC), [message]);
      expect(received).toHaveLength(1);
      expect(received[0]).toContain('"type":"error"');
      expect(received[0]).toContain(named);
      expect(closeCode).toBe(1008);
      expect(calls.map(([name]) => name)).not.toContain("guest");
    },
  );

  test("a message above the limit closes the connection, and draining closes those that are open", async () => {
    const { api } = await build();
    const { closeCode } = await talk(open(api, EXEC), [Buffer.alloc(3 * 1024 * 1024)]);
    expect(closeCode).toBe(1009);
    const idle = open(api, EXEC);
    await once(idle, "open");
    api.drain();
    const [code] = (await once(idle, "close")) as [number];
    expect(code).toBe(1001);
  });

  test("an upgrade to something else is refused, and the server lives on", async () => {
    const { api } = await build();
    const text = await readAll(send(api, EXEC, ["Connection: Upgrade", "Upgrade: h2c"]));
    expect(text).toContain("BAD_REQUEST");
    const malformed = await readAll(send(api, EXEC, ["Connection: Upgrade", "Upgrade: websocket"]));
    expect(malformed).toMatch(/^HTTP\/1\.1 4\d\d/);
    expect((await api.inject({ url: "/healthz" })).statusCode).toBe(200);
  });
});
