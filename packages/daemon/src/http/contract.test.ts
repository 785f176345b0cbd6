import { describe, expect, test } from "vitest";
import { connectTo, fakeApi, ID, readAll, SANDBOX } from "./testing/fake-services.ts";

const AUTH = { authorization: "Bearer bj_admin", host: "localhost:7070" };

async function ask(
  method: string,
  url: string,
  options: { headers?: Record<string, string>; payload?: unknown } = {},
) {
  const { api, calls } = await fakeApi();
  const response = await api.inject({
    method: method as "GET",
    url,
    headers: { ...AUTH, ...options.headers },
    ...(options.payload === undefined ? {} : { payload: options.payload as object }),
  });
  const text = response.body;
  await api[Symbol.asyncDispose]();
  return {
    status: response.statusCode,
    headers: response.headers,
    body: text === "" ? null : JSON.parse(text),
    calls,
  };
}

describe("ids in paths", () => {
  const refused = [
    ["..", "ROUTE_NOT_FOUND"],
    ["..%2f..", "BAD_REQUEST"],
    ["abcdefghij%2F123456789", "BAD_REQUEST"],
    ["abcdefghij%00123456789", "BAD_REQUEST"],
    ["abcdefghij012345678", "BAD_REQUEST"],
    ["abcdefghij01234567890", "BAD_REQUEST"],
    [`abcdefghij${"0".repeat(15)}`, "BAD_REQUEST"],
    [`abcdefghij${"0".repeat(16)}`, "BAD_REQUEST"],
    [`abcdefghij${"0".repeat(17)}`, "BAD_REQUEST"],
    ["ABCDEFGHIJ0123456789", "BAD_REQUEST"],
    ["1bcdefghij0123456789", "BAD_REQUEST"],
    ["abcdefghij012345678%0a", "BAD_REQUEST"],
    ["%zz", "BAD_REQUEST"],
    [`a${"b".repeat(300)}`, "BAD_REQUEST"],
  ] as const;

  test.for(refused)("%s is refused with %s and reaches no service", async ([id, code]) => {
    const { status, body, calls } = await ask("GET", `/v1/sandboxes/${id}`);
    expect(body.error.code).toBe(code);
    expect(status).toBe(code === "BAD_REQUEST" ? 400 : 404);
    expect(calls).toEqual([]);
  });

  test("20 characters of [a-z0-9] are an id, and the refusal shows the value that was none", async () => {
    expect((await ask("GET", `/v1/sandboxes/${ID}`)).body).toEqual(SANDBOX);
    const { body } = await ask("GET", "/v1/sandboxes/nope");
    expect(body.error.message).toContain("path.id");
    expect(body.error.message).toContain('"nope"');
    expect(body.error.hint).not.toBe("");
    expect(body.error.requestId).toMatch(/^req-/);
  });
});

describe("bodies", () => {
  const refused: [string, unknown, string][] = [
    ["an unknown key", { tempalte: "host" }, "tempalte"],
    ["a template that is no name", { template: "../etc" }, "body.template"],
    ["port 0", { ports: [0] }, "body.ports.0"],
    ["port 65536", { ports: [65_536] }, "body.ports.0"],
    ["a port with a fraction", { ports: [80.5] }, "body.ports.0"],
    ["an environment name with =", { env: { "A=B": "1" } }, "body.env.A=B"],
    ["an environment value with NUL", { env: { A: "a\0b" } }, "body.env.A"],
    ["too little memory", { limits: { memoryBytes: 5 } }, "got 5"],
    ["a visibility that is none", { visibility: "secret" }, "body.visibility"],
    ["an empty start command", { start: { command: [] } }, "body.start.command"],
    ["a list instead of an object", [], "body"],
  ];

  test.for(refused)("create refuses %s, naming the field", async ([, payload, named]) => {
    const { status, body, calls } = await ask("POST", "/v1/sandboxes", { payload });
    expect(status).toBe(400);
    expect(body.error.code).toBe("BAD_REQUEST");
    expect(body.error.message).toContain(named);
    expect(body.error.details.fields.length).toBeGreaterThan(0);
    expect(calls).toEqual([]);
  });

  test("create takes the neighbours of what it refuses", async () => {
    const payload = { template: "host", ports: [1, 65_535], env: { A_B: "=" }, visibility: "link" };
    const { status, headers, calls } = await ask("POST", "/v1/sandboxes", { payload });
    expect(status).toBe(201);
    expect(headers["location"]).toBe(`/v1/sandboxes/${ID}`);
    expect(calls[0]?.[1]).toMatchObject(payload);
    expect((await ask("POST", "/v1/sandboxes")).status).toBe(201);
  });

  test("10 MB of arguments are refused with a clear error", async () => {
    const payload = { command: ["echo", "x".repeat(10_000_000)] };
    const { status, body, calls } = await ask("POST", `/v1/sandboxes/${ID}/exec`, { payload });
    expect(status).toBe(413);
    expect(body.error).toMatchObject({
      code: "BODY_TOO_LARGE",
      details: { bytesMax: 2 * 1024 * 1024 },
    });
    expect(calls).toEqual([]);
  });

  test("what is not JSON is refused, by type and by content", async () => {
    const url = "/v1/sandboxes";
    const asText = await ask("POST", url, {
      payload: "{}",
      headers: { "content-type": "text/plain" },
    });
    expect([asText.status, asText.body.error.code]).toEqual([415, "MEDIA_TYPE_UNSUPPORTED"]);
    const json = { "content-type": "application/json" };
    for (const payload of ["{", '{"a":1}}', "\u0000", '{"__proto__":{"x":1}}']) {
      const { status, body } = await ask("POST", url, { payload, headers: json });
      expect([status, body.error.code]).toEqual([400, "BAD_REQUEST"]);
    }
    expect((await ask("POST", url, { payload: "{}", headers: json })).status).toBe(201);
    expect(
      (await ask("POST", `/v1/sandboxes/${ID}/freeze`, { payload: "", headers: json })).status,
    ).toBe(200);
  });
});

describe("queries", () => {
  const refused = [
    "limit=0",
    "limit=1001",
    "limit=abc",
    "limit=1&limit=2",
    "state=sleeping",
    "metadata=nocolon",
    "metadata=a:1&metadata=a:2",
    "stat=running",
  ];
  test.for(refused)("a list refuses ?%s", async (query) => {
    const { status, body, calls } = await ask("GET", `/v1/sandboxes?${query}`);
    expect([status, body.error.code]).toEqual([400, "BAD_REQUEST"]);
    expect(calls).toEqual([]);
  });

  test("a list passes its filters on, metadata several times", async () => {
    const { status, calls } = await ask(
      "GET",
      "/v1/sandboxes?limit=5&state=running&metadata=a:1&metadata=b:x:y",
    );
    expect(status).toBe(200);
    expect(calls).toEqual([
      ["list", { limit: 5, state: "running", metadata: { a: "1", b: "x:y" } }],
    ]);
  });

  test.for(["0", "65536", "080", "-1", "1e3", "99999999999"])(
    "port %s in a path is refused",
    async (port) => {
      const { status, body } = await ask("PUT", `/v1/sandboxes/${ID}/previews/${port}`, {
        payload: {},
      });
      expect([status, body.error.code]).toEqual([400, "BAD_REQUEST"]);
    },
  );

  test("ports 1 and 65535 in a path are taken", async () => {
    for (const port of [1, 65_535]) {
      expect(
        (await ask("PUT", `/v1/sandboxes/${ID}/previews/${port}`, { payload: {} })).status,
      ).toBe(200);
    }
  });
});

describe("routes", () => {
  test("unknown routes and methods are told apart, in the envelope", async () => {
    const unknown = await ask("GET", "/v2/sandboxes");
    expect([unknown.status, unknown.body.error.code]).toEqual([404, "ROUTE_NOT_FOUND"]);
    const method = await ask("PUT", `/v1/sandboxes/${ID}`);
    expect([method.status, method.body.error.code]).toEqual([405, "METHOD_NOT_ALLOWED"]);
    expect(method.headers["allow"]).toBe("DELETE, GET, HEAD, PATCH");
    expect((await ask("GET", "/v1/sandboxes/")).status).not.toBe(200);
  });

  test("a bug answers INTERNAL and says nothing more", async () => {
    const { api } = await fakeApi({ status: () => Promise.reject(new TypeError("secret detail")) });
    const response = await api.inject({ url: "/v1/status", headers: AUTH });
    expect(response.statusCode).toBe(500);
    expect(response.json()).toMatchObject({ error: { code: "INTERNAL" } });
    expect(response.body).not.toContain("secret detail");
    await api[Symbol.asyncDispose]();
  });

  test("every answer carries a request id and the security headers", async () => {
    for (const url of ["/v1/sandboxes", "/nowhere", "/v1/sandboxes/x"]) {
      const { headers } = await ask("GET", url);
      expect(headers["x-request-id"]).toMatch(/^req-[a-z0-9]+-[a-z0-9]+$/);
      expect(headers["x-content-type-options"]).toBe("nosniff");
      expect(headers["cache-control"]).toBe("no-store");
    }
  });

  test("Idempotency-Key is passed on where it is taken, and refused where it would be ignored", async () => {
    const headers = { "idempotency-key": "k1" };
    const { calls } = await ask("POST", "/v1/sandboxes", { headers, payload: {} });
    expect(calls[0]?.[2]).toEqual({ owner: "tokenadminaaaaaaaaaa", idempotencyKey: "k1" });
    expect((await ask("POST", `/v1/sandboxes/${ID}/stop`, { headers })).body.error.code).toBe(
      "BAD_REQUEST",
    );
    const long = { "idempotency-key": "x".repeat(256) };
    expect(
      (await ask("POST", "/v1/sandboxes", { headers: long, payload: {} })).body.error.code,
    ).toBe("BAD_REQUEST");
  });
});

describe("connections", () => {
  test("requests over a stream of the gateway are answered one after the other", async () => {
    const { api } = await fakeApi();
    const stream = connectTo(api);
    const head = "Host: localhost\r\nAuthorization: Bearer bj_read\r\n";
    stream.write(`GET /v1/sandboxes/${ID} HTTP/1.1\r\n${head}\r\n`);
    stream.write(`GET /healthz HTTP/1.1\r\n${head}Connection: close\r\n\r\n`);
    const text = await readAll(stream);
    expect(text.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(2);
    expect(text).toContain(`"id":"${ID}"`);
    await api[Symbol.asyncDispose]();
  });

  test("a draining API refuses work, still says that it lives, and that it is not ready", async () => {
    const { api } = await fakeApi();
    api.drain();
    const statuses = await Promise.all(
      ["/v1/sandboxes", "/healthz", "/readyz"].map(
        async (url) => (await api.inject({ url, headers: AUTH })).statusCode,
      ),
    );
    expect(statuses).toEqual([503, 200, 503]);
    await api[Symbol.asyncDispose]();
  });

  test("a command's output comes back, its streams apart and bounded", async () => {
    const { status, body } = await ask("POST", `/v1/sandboxes/${ID}/exec`, {
      payload: { command: ["abc", "def"], outputBytesMax: 4 },
    });
    expect(status).toBe(200);
    expect(body).toMatchObject({
      exitCode: 0,
      stdout: "abc ",
      stdoutTruncated: true,
      stderr: "",
      stderrTruncated: false,
    });
  });
});

test("a directory of endless names ends at a number of bytes, whatever limit was asked for", async () => {
  let listed = 0;
  const guest = {
    async *list() {
      for (;;) {
        listed += 1;
        yield {
          name: `${listed}`.padStart(255, "n"),
          type: "symlink",
          size: 0,
          mode: 0o777,
          uid: 0,
          gid: 0,
          owner: "root",
          group: "root",
          modifiedAtMs: 0,
          symlinkTarget: "t".repeat(4095),
        };
      }
    },
  };
  const sandboxes = new Proxy(
    {
      guest: () => Promise.resolve(guest),
      commandDefaults: () => Promise.resolve({ env: {}, user: "user", cwd: "/" }),
    },
    { get: (target, name) => Reflect.get(target, name) ?? (() => undefined) },
  );
  const { api } = await fakeApi({ sandboxes });
  const response = await api.inject({
    url: `/v1/sandboxes/${ID}/files?path=/x&limit=100000`,
    headers: { host: "localhost", authorization: "Bearer bj_read" },
  });
  await api[Symbol.asyncDispose]();
  const { items, truncated } = response.json() as { items: unknown[]; truncated: boolean };
  expect([response.statusCode, truncated]).toEqual([200, true]);
  expect(items.length).toBeLessThan(5000);
  expect(listed).toBe(items.length + 1);
});

test.for(["123", "task.abcdefghij0123456789", "belljar.start", "", "a b", "x".repeat(65)])(
  "a process tagged %j is refused: it would be taken for another",
  async (tag) => {
    const url = `/v1/sandboxes/${ID}/processes`;
    const { status, body, calls } = await ask("POST", url, { payload: { command: "true", tag } });
    expect([status, body.error.code]).toEqual([400, "BAD_REQUEST"]);
    expect(body.error.message).toContain("body.tag");
    expect(calls).toEqual([]);
    const plain = await ask("POST", url, { payload: { command: "true", tag: `my${ID}` } });
    expect(plain.status).not.toBe(400);
  },
);

test("a start command with NUL in an argument is refused before anything is made", async () => {
  const payload = { start: { command: ["serve", "a\0b"] } };
  const { status, body, calls } = await ask("POST", "/v1/sandboxes", { payload });
  expect([status, body.error.code]).toEqual([400, "BAD_REQUEST"]);
  expect(body.error.message).toContain("body.start.command.1");
  expect(calls).toEqual([]);
});
