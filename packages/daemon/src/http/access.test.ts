import { describe, expect, test } from "vitest";
import { connectTo, fakeApi, ID, readAll } from "./testing/fake-services.ts";

const HOST = { host: "localhost:7070" };
const bearer = (token: string) => ({ ...HOST, authorization: `Bearer ${token}` });

async function status(
  method: "GET" | "POST" | "DELETE",
  url: string,
  headers: Record<string, string>,
) {
  const { api, calls } = await fakeApi();
  const response = await api.inject({ method, url, headers });
  await api[Symbol.asyncDispose]();
  const code =
    response.statusCode >= 400 ? (response.json() as { error: { code: string } }).error.code : "";
  return { status: response.statusCode, code, calls, headers: response.headers };
}

describe("tokens", () => {
  test.for([
    ["none", HOST],
    ["an unknown one", bearer("bj_nobody")],
    ["another scheme", { ...HOST, authorization: "Basic bj_admin" }],
    ["an empty one", { ...HOST, authorization: "Bearer " }],
    ["two in one header", { ...HOST, authorization: "Bearer bj_admin, Bearer bj_read" }],
    ["one in the query", HOST],
  ] as [string, Record<string, string>][])("%s is refused", async ([name, headers]) => {
    const url = name === "one in the query" ? "/v1/sandboxes?token=bj_admin" : "/v1/sandboxes";
    const answer = await status("GET", url, headers);
    expect([answer.status, answer.code]).toEqual([401, "UNAUTHENTICATED"]);
    expect(answer.headers["www-authenticate"]).toContain("Bearer");
    expect(answer.calls).toEqual([]);
  });

  test("two Authorization headers are refused, one is taken", async () => {
    const { api } = await fakeApi();
    const ask = async (lines: string[]) => {
      const stream = connectTo(api);
      stream.write(
        `GET /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${lines.join("\r\n")}\r\n\r\n`,
      );
      return (await readAll(stream)).split("\r\n", 1)[0];
    };
    expect(
      await ask(["Authorization: Bearer bj_read", "authorization: Bearer bj_admin"]),
    ).toContain("401");
    expect(await ask(["Authorization: Bearer bj_read"])).toContain("200");
    await api[Symbol.asyncDispose]();
  });

  test.for([
    ["GET", "/v1/sandboxes", "bj_read", 200],
    ["POST", `/v1/sandboxes/${ID}/freeze`, "bj_read", 403],
    ["POST", `/v1/sandboxes/${ID}/freeze`, "bj_operate", 200],
    ["GET", "/v1/tokens", "bj_operate", 403],
    ["GET", "/v1/tokens", "bj_admin", 200],
    ["DELETE", "/v1/tokens/tokenreadaaaaaaaaaaa", "bj_operate", 403],
  ] as const)("%s %s with %s is answered with %i", async ([method, url, token, expected]) => {
    const answer = await status(method, url, bearer(token));
    expect(answer.status).toBe(expected);
    expect(answer.code).toBe(expected === 403 ? "FORBIDDEN" : "");
  });

  test("the client's address earns nothing: there is no way in for loopback", async () => {
    const { api } = await fakeApi();
    const response = await api.inject({
      url: "/v1/sandboxes",
      headers: HOST,
      remoteAddress: "127.0.0.1",
    });
    expect(response.statusCode).toBe(401);
    await api[Symbol.asyncDispose]();
  });
});

describe("hosts and origins", () => {
  test.for([
    "evil.example",
    "localhost.evil.example",
    " ",
    "localhost:port",
    "localhost@evil",
    `3000-${ID}.localhost`,
  ])("host %s is refused before the token is looked at", async (host) => {
    const answer = await status("GET", "/v1/sandboxes", { ...bearer("bj_admin"), host });
    expect([answer.status, answer.code]).toEqual([421, "HOST_REFUSED"]);
  });

  test.for(["localhost", "LOCALHOST:1", "localhost.:7070"])("host %s is ours", async (host) => {
    expect((await status("GET", "/v1/sandboxes", { ...bearer("bj_admin"), host })).status).toBe(
      200,
    );
  });

  test("a write from another site's page is refused, from an allowed or our own it is taken", async () => {
    const write = (origin: string) =>
      status("POST", `/v1/sandboxes/${ID}/stop`, { ...bearer("bj_admin"), origin });
    for (const origin of [
      "https://evil.example",
      "null",
      "http://localhost:9999",
      "https://app.example.org.evil",
    ]) {
      expect((await write(origin)).code).toBe("ORIGIN_REFUSED");
    }
    expect((await write("https://app.example.org")).status).toBe(200);
    expect((await write("http://localhost:7070")).status).toBe(200);
  });

  test("CORS opens answers to allowed origins alone, and preflights need no token", async () => {
    const { api } = await fakeApi();
    const preflight = async (origin: string) =>
      api.inject({
        method: "OPTIONS",
        url: "/v1/sandboxes",
        headers: { ...HOST, origin, "access-control-request-method": "POST" },
      });
    const allowed = await preflight("https://app.example.org");
    expect(allowed.statusCode).toBe(204);
    expect(allowed.headers["access-control-allow-origin"]).toBe("https://app.example.org");
    expect(allowed.headers["access-control-allow-credentials"]).toBeUndefined();
    const foreign = await preflight("https://evil.example");
    expect(foreign.headers["access-control-allow-origin"]).toBeUndefined();
    expect(foreign.statusCode).toBeGreaterThanOrEqual(400);
    await api[Symbol.asyncDispose]();
  });
});

describe("policies", () => {
  test("a route without a policy does not register, so the daemon does not start", async () => {
    const extend =
      (policy?: "read") =>
      (api: Parameters<NonNullable<Parameters<typeof fakeApi>[1]>["extend"] & object>[0]) => {
        api.get("/v1/extra", policy === undefined ? {} : { config: { policy } }, () => ({}));
      };
    await expect(fakeApi({}, { extend: extend() })).rejects.toThrow("declares no policy");
    const { api } = await fakeApi({}, { extend: extend("read") });
    expect(api.routes).toContain("GET /v1/extra read");
    await api[Symbol.asyncDispose]();
  });

  test("the surface changes only where a diff shows it", async () => {
    const { api } = await fakeApi();
    expect(api.routes).toMatchSnapshot();
    expect(api.routes.filter((route) => route.endsWith(" public"))).toEqual([
      "GET /api/v1/healthz public",
      "GET /api/v1/readyz public",
      "GET /health public",
      "GET /healthz public",
      "GET /readyz public",
      "GET /v1/openapi.json public",
    ]);
    await api[Symbol.asyncDispose]();
  });

  test("the OpenAPI document names every route, each schema once, and no dangling reference", async () => {
    const { api } = await fakeApi();
    const document = api.openApi() as {
      openapi: string;
      paths: Record<string, object>;
      components: { schemas: Record<string, object> };
    };
    expect(document.openapi).toBe("3.1.0");
    const text = JSON.stringify(document);
    for (const [, name] of text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)) {
      expect(Object.keys(document.components.schemas)).toContain(name);
    }
    const documented = Object.entries(document.paths).flatMap(([path, operations]) =>
      Object.keys(operations).map(
        (method) => `${method.toUpperCase()} ${path.replace(/\{([a-zA-Z]+)\}/g, ":$1")}`,
      ),
    );
    const registered = api.routes
      .filter((route) => !route.startsWith("WS "))
      .map((route) => route.replace(/ \w+$/, ""));
    expect(documented.toSorted()).toEqual(registered.toSorted());
    expect(text).not.toMatch(/"pattern":"[^"]{300,}"/);
    await api[Symbol.asyncDispose]();
  });
});
