import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { WebSocketServer } from "ws";
import type { WebSocket as ServerSocket } from "ws";
import { Belljar, BelljarError } from "./index.ts";
import * as surface from "./index.ts";

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
});

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A client of a server that answers with `handler`. */
async function clientOf(handler: Handler, token = "bj_test") {
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { belljar: new Belljar({ url, token }), server, url };
}

const json = (response: ServerResponse, status: number, body: unknown) => {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
};

async function failure(promise: Promise<unknown>): Promise<BelljarError> {
  const error: unknown = await promise.catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(BelljarError);
  return error as BelljarError;
}

describe("requests", () => {
  test("the token is sent, and the answer is the protocol's", async () => {
    const seen: string[] = [];
    const { belljar } = await clientOf((request, response) => {
      seen.push(`${request.method} ${request.url} ${request.headers.authorization}`);
      json(response, 200, { version: "1" });
    });
    expect(await belljar.status()).toEqual({ version: "1" });
    expect(seen).toEqual(["GET /v1/status Bearer bj_test"]);
  });

  test("errors are the API's, with code, details and request id", async () => {
    const { belljar } = await clientOf((_request, response) => {
      const error = {
        code: "SANDBOX_NOT_FOUND",
        message: "no sandbox x",
        retryable: false,
        hint: "h",
        details: { id: "x" },
        requestId: "r1",
      };
      json(response, 404, { error });
    });
    const error = await failure(belljar.sandboxes.get("x"));
    expect([error.code, error.status, error.details]).toEqual([
      "SANDBOX_NOT_FOUND",
      404,
      { id: "x", requestId: "r1" },
    ]);
  });

  test("an answer that is no daemon's is told apart, and so is none at all", async () => {
    const { belljar } = await clientOf((_request, response) =>
      response.writeHead(502).end("<h1>Bad gateway</h1>"),
    );
    expect((await failure(belljar.status())).code).toBe("DAEMON_UNREACHABLE");
    const gone = await clientOf(() => undefined);
    await new Promise((resolve) => gone.server.close(resolve));
    const error = await failure(gone.belljar.status());
    expect(error.code).toBe("DAEMON_UNREACHABLE");
    expect(error.message).toContain("ECONNREFUSED");
  });

  test("an aborted call rejects with its signal's reason", async () => {
    const { belljar } = await clientOf(() => undefined);
    const controller = new AbortController();
    const promise = belljar.status({ signal: controller.signal });
    controller.abort(new RangeError("mine"));
    await expect(promise).rejects.toThrow(RangeError);
  });

  test("ids are encoded, so that none can reach another route", async () => {
    const { belljar } = await clientOf((request, response) =>
      json(response, 200, { id: request.url }),
    );
    expect((await belljar.sandboxes.get("../tokens?x")).id).toBe("/v1/sandboxes/..%2Ftokens%3Fx");
  });

  test("a URL that is no http URL is refused at once", () => {
    for (const url of ["", "7070", "ftp://x", "javascript:1"])
      expect(() => new Belljar({ url })).toThrow(BelljarError);
    expect(() => new Belljar({ url: "http://x/" })).not.toThrow();
  });

  test("bytes, text, blobs, streams and iterables can be written", async () => {
    const bodies: string[] = [];
    const { belljar } = await clientOf((request, response) => {
      if (request.method === "GET") return json(response, 200, { id: "s" });
      let text = "";
      request.on("data", (data: Buffer) => (text += data.toString()));
      request.on("end", () => {
        bodies.push(text);
        json(response, 200, {});
      });
    });
    const { files } = await belljar.sandboxes.get("s");
    async function* pieces() {
      yield Buffer.from("a");
      yield Buffer.from("b");
    }
    for (const source of [
      "text",
      Buffer.from("bytes"),
      new Blob(["blob"]),
      new Blob(["stream"]).stream(),
      pieces(),
    ]) {
      await files.write("/x", source);
    }
    expect(bodies).toEqual(["text", "bytes", "blob", "stream", "ab"]);
  });
});

describe("lists", () => {
  test("pages follow each other as the reader goes on, and no further", async () => {
    const cursors: (string | null)[] = [];
    const { belljar } = await clientOf((request, response) => {
      const { searchParams } = new URL(request.url ?? "", "http://x");
      cursors.push(searchParams.get("cursor"));
      const page = Number(searchParams.get("cursor") ?? 0);
      json(response, 200, {
        items: [{ id: `s${page}` }],
        nextCursor: page < 2 ? String(page + 1) : null,
      });
    });
    const ids = [];
    for await (const sandbox of belljar.sandboxes.list({ metadata: { a: "1" } }))
      ids.push(sandbox.id);
    expect(ids).toEqual(["s0", "s1", "s2"]);
    for await (const _first of belljar.sandboxes.list()) break;
    expect(cursors).toEqual([null, "1", "2", null]);
  });
});

describe("events", () => {
  test("a broken stream is taken up after the last event, without repeats or holes", async () => {
    const from: (string | undefined)[] = [];
    const { belljar } = await clientOf((request, response) => {
      from.push(request.headers["last-event-id"] as string | undefined);
      response.writeHead(200, { "content-type": "text/event-stream" });
      const last = Number(request.headers["last-event-id"] ?? 0);
      const send = (id: number) =>
        response.write(`id: ${id}\nevent: sandbox.state\ndata: ${JSON.stringify({ id })}\n\n`);
      // The second connection repeats what was seen: the client must not.
      for (const id of last === 0 ? [1, 2] : [2, 3]) send(id);
      setImmediate(() => response.destroy());
    });
    const ids = [];
    for await (const event of belljar.events()) {
      ids.push(event.id);
      if (event.id === 3) break;
    }
    expect(ids).toEqual([1, 2, 3]);
    expect(from).toEqual([undefined, "2"]);
  });

  test("an error that trying again would not change ends the stream", async () => {
    let count = 0;
    const { belljar } = await clientOf((_request, response) => {
      count += 1;
      json(response, 401, {
        error: { code: "UNAUTHENTICATED", message: "no", retryable: false, hint: "" },
      });
    });
    expect((await failure(belljar.events().next())).code).toBe("UNAUTHENTICATED");
    expect(count).toBe(1);
  });

  test("waiting for a task ends with its `done` event", async () => {
    const { belljar } = await clientOf((request, response) => {
      if (!request.url?.endsWith("/events"))
        return json(response, 200, { id: "t", state: "running" });
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(
        `id: 1\nevent: stdout\ndata: ${JSON.stringify({ sequence: 1, type: "stdout", text: "hi" })}\n\n`,
      );
      response.write(
        `id: 2\nevent: done\ndata: ${JSON.stringify({ sequence: 2, type: "done", task: { id: "t", state: "succeeded" } })}\n\n`,
      );
    });
    const task = await belljar.tasks.get("t");
    expect((await task.wait()).state).toBe("succeeded");
    expect(task.info.state).toBe("succeeded");
  });
});

describe("commands over WebSocket", () => {
  async function serve(onConnection: (socket: ServerSocket) => void, protocols: string[] = []) {
    const setup = await clientOf((_request, response) => json(response, 200, { id: "s" }));
    const webSockets = new WebSocketServer({
      server: setup.server,
      handleProtocols: (offered) => (protocols.push(...offered), "belljar.exec.v1"),
    });
    webSockets.on("connection", onConnection);
    cleanups.push(() => webSockets.close());
    return setup.belljar.sandboxes.get("s");
  }

  test("start, output, input and exit travel in the protocol's shapes", async () => {
    const protocols: string[] = [];
    const got: string[] = [];
    const sandbox = await serve((socket) => {
      socket.on("message", (data, isBinary) => {
        got.push(isBinary ? `binary ${(data as Buffer).toString("hex")}` : String(data as Buffer));
        if (isBinary) {
          socket.send(Buffer.from([2, 33]));
          socket.send(
            JSON.stringify({
              type: "exit",
              exitCode: 3,
              signal: null,
              reason: "exited",
              maxRssBytes: 1,
              cpuTimeMs: 1,
            }),
          );
        } else if (String(data as Buffer).includes("start"))
          socket.send(JSON.stringify({ type: "started", pid: 9 }));
      });
    }, protocols);
    const command = await sandbox.spawn(["cat"], { stdin: true });
    expect(command.pid).toBe(9);
    await command.writeStdin("hi");
    const output = [];
    for await (const { stream, data } of command.output) output.push([stream, ...data]);
    expect(output).toEqual([["stderr", 33]]);
    expect((await command.exited).exitCode).toBe(3);
    expect(got).toEqual(['{"type":"start","command":["cat"],"stdin":true}', "binary 006869"]);
    expect(protocols).toEqual(["belljar.exec.v1", "belljar.token.bj_test"]);
  });

  test("an error message rejects the spawn with its code", async () => {
    const sandbox = await serve((socket) => {
      const error = {
        code: "EXEC_NOT_FOUND",
        message: "no such program",
        retryable: false,
        hint: "",
      };
      socket.on("message", () => socket.send(JSON.stringify({ type: "error", error })));
    });
    expect((await failure(sandbox.spawn("x"))).code).toBe("EXEC_NOT_FOUND");
  });

  test("a connection that breaks rejects `exited` and ends the output with the same error", async () => {
    const sandbox = await serve((socket) => {
      socket.on("message", () => {
        socket.send(JSON.stringify({ type: "started", pid: 1 }), () => socket.terminate());
      });
    });
    const command = await sandbox.spawn("x");
    expect((await failure(command.exited)).code).toBe("DAEMON_UNREACHABLE");
    expect(
      (
        await failure(
          (async () => {
            for await (const _chunk of command.output);
          })(),
        )
      ).code,
    ).toBe("DAEMON_UNREACHABLE");
  });

  test("without a WebSocket the error says what to pass", async () => {
    const setup = await clientOf((_request, response) => json(response, 200, { id: "s" }));
    const original = globalThis.WebSocket;
    Reflect.deleteProperty(globalThis, "WebSocket");
    try {
      const belljar = new Belljar({ url: setup.url, token: "t" });
      const sandbox = await belljar.sandboxes.get("s");
      expect((await failure(sandbox.spawn("x"))).message).toMatch(/WebSocket/);
    } finally {
      globalThis.WebSocket = original;
    }
  });
});

test("the exports change only where a diff shows it", () => {
  expect(Object.keys(surface).toSorted()).toMatchSnapshot();
});
