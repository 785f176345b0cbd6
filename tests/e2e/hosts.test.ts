import { expect, test } from "./fixture.ts";
import { until } from "./support/machine.ts";
import { previewHost, rawExchange } from "./support/preview.ts";

const PORT = 8080;
/** Answers every request with what it saw, so that a test can see what reached the app. */
const ECHO = `
const http = require("http");
http.createServer((request, response) => {
  let body = "";
  request.on("data", (chunk) => (body += chunk));
  request.on("end", () => {
    const seen = JSON.stringify({ method: request.method, url: request.url, headers: request.rawHeaders, body });
    response.writeHead(200, { "content-type": "application/json" });
    response.end(seen);
  });
}).listen(${PORT}, "127.0.0.1");
`;

const hostsTest = test.extend<{ app: { id: string; port: number; host: string } }>({
  app: [
    async ({ daemon }, use) => {
      const { id } = await daemon.api.create({ ports: [PORT], visibility: "public" });
      daemon.sandboxIds.add(id);
      await daemon.api.write(id, "/home/user/echo.cjs", ECHO);
      await daemon.api.json("POST", `/v1/sandboxes/${id}/processes`, {
        body: { command: ["node", "/home/user/echo.cjs"] },
      });
      const host = previewHost(id, PORT, daemon.port);
      await until(
        "the app answers",
        async () => (await daemon.api.call("GET", "/", { headers: { host } })).status === 200,
      );
      await use({ id, port: daemon.port, host });
    },
    { scope: "file" },
  ],
});

hostsTest.for([
  { what: "in upper case", spell: (host: string) => host.toUpperCase() },
  {
    what: "with a trailing dot",
    spell: (host: string) => host.replace(".localhost:", ".localhost.:"),
  },
  { what: "without a port", spell: (host: string) => host.replace(/:[0-9]+$/, "") },
  {
    what: "in the second spelling",
    spell: (host: string) => host.replace(/^([0-9]+)-([a-z0-9]+)\./, "s-$2-$1.preview."),
  },
])("a host $what reaches the preview", async ({ spell }, { app }) => {
  const { statuses } = await rawExchange(
    app.port,
    `GET / HTTP/1.1\r\nHost: ${spell(app.host)}\r\nConnection: close\r\n\r\n`,
  );
  expect(statuses).toEqual([200]);
});

hostsTest.for([
  {
    what: "two trailing dots",
    spell: (host: string) => host.replace(".localhost:", ".localhost..:"),
  },
  { what: "a leading zero in the port", spell: (host: string) => `0${host}` },
  { what: "port 0", spell: (host: string) => host.replace(/^[0-9]+/, "0") },
  { what: "port 65536", spell: (host: string) => host.replace(/^[0-9]+/, "65536") },
  { what: "another domain", spell: (host: string) => host.replace("localhost", "example.com") },
  {
    what: "the domain as a mere suffix",
    spell: (host: string) => host.replace(".localhost", ".notlocalhost"),
  },
  { what: "a label in front", spell: (host: string) => `x.${host}` },
  { what: "an id of 19 characters", spell: (host: string) => host.replace(/-[a-z]/, "-") },
  { what: "an IPv4 address of somewhere else", spell: () => "10.0.0.1" },
  {
    what: "a port number out of range",
    spell: (host: string) => host.replace(/:[0-9]+$/, ":99999"),
  },
])("a host with $what reaches nothing", async ({ spell }, { app }) => {
  const { statuses } = await rawExchange(
    app.port,
    `GET /reached HTTP/1.1\r\nHost: ${spell(app.host)}\r\nConnection: close\r\n\r\n`,
  );
  expect([400, 404, 421]).toContain(statuses[0]);
});

/** Each row is refused; its `near` neighbour differs only in the fault, and is answered. */
const FAULTS = [
  {
    what: "two Host headers",
    send: "GET / HTTP/1.1\r\nHost: H\r\nHost: H\r\n\r\n",
    near: "GET / HTTP/1.1\r\nHost: H\r\n\r\n",
  },
  {
    what: "no Host header",
    send: "GET / HTTP/1.1\r\nX: 1\r\n\r\n",
    near: "GET / HTTP/1.1\r\nX: 1\r\nHost: H\r\n\r\n",
  },
  {
    what: "an absolute target of another host",
    send: "GET http://other.localhost/ HTTP/1.1\r\nHost: H\r\n\r\n",
    near: "GET http://H/ HTTP/1.1\r\nHost: H\r\n\r\n",
  },
  {
    what: "Content-Length with Transfer-Encoding",
    send: "POST / HTTP/1.1\r\nHost: H\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    near: "POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  },
  {
    what: "two different lengths",
    send: "POST / HTTP/1.1\r\nHost: H\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    near: "POST / HTTP/1.1\r\nHost: H\r\nContent-Length: 2\r\n\r\nab",
  },
  {
    what: "a length with a sign",
    send: "POST / HTTP/1.1\r\nHost: H\r\nContent-Length: +2\r\n\r\nab",
    near: "POST / HTTP/1.1\r\nHost: H\r\nContent-Length: 2\r\n\r\nab",
  },
  {
    what: "a coding that is not exactly chunked",
    send: "POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    near: "POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  },
  {
    what: "a chunk size that is no number",
    send: "POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    near: "POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
  },
  {
    what: "lines that end in a bare LF",
    send: "GET / HTTP/1.1\nHost: H\n\n",
    near: "GET / HTTP/1.1\r\nHost: H\r\n\r\n",
  },
  {
    what: "one bare LF among its lines",
    send: "GET / HTTP/1.1\r\nHost: H\r\nX: 1\nY: 2\r\n\r\n",
    near: "GET / HTTP/1.1\r\nHost: H\r\nX: 1\r\nY: 2\r\n\r\n",
  },
  {
    what: "a space before the colon",
    send: "GET / HTTP/1.1\r\nHost : H\r\n\r\n",
    near: "GET / HTTP/1.1\r\nHost: H\r\n\r\n",
  },
  {
    what: "a folded header",
    send: "GET / HTTP/1.1\r\nHost: H\r\nX: 1\r\n 2\r\n\r\n",
    near: "GET / HTTP/1.1\r\nHost: H\r\nX: 1 2\r\n\r\n",
  },
  {
    what: "NUL in a header",
    send: "GET / HTTP/1.1\r\nHost: H\r\nX: a\0b\r\n\r\n",
    near: "GET / HTTP/1.1\r\nHost: H\r\nX: ab\r\n\r\n",
  },
  {
    what: "a head of 100 KiB",
    send: `GET / HTTP/1.1\r\nHost: H\r\nX: ${"a".repeat(100_000)}\r\n\r\n`,
    near: `GET / HTTP/1.1\r\nHost: H\r\nX: ${"a".repeat(8000)}\r\n\r\n`,
  },
  {
    what: "CONNECT",
    send: "CONNECT H HTTP/1.1\r\nHost: H\r\n\r\n",
    near: "GET / HTTP/1.1\r\nHost: H\r\n\r\n",
  },
  {
    what: "TRACE",
    send: "TRACE / HTTP/1.1\r\nHost: H\r\n\r\n",
    near: "OPTIONS / HTTP/1.1\r\nHost: H\r\n\r\n",
  },
  {
    what: "the HTTP/2 preface",
    send: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    near: "GET / HTTP/1.1\r\nHost: H\r\n\r\n",
  },
] as const;

hostsTest.for(FAULTS)(
  "a request with $what is refused once, and its neighbour is answered",
  async ({ send, near }, { app }) => {
    const spell = (text: string) =>
      text
        .replaceAll(": H\r", `: ${app.host}\r`)
        .replaceAll(": H\n", `: ${app.host}\n`)
        .replaceAll("//H/", `//${app.host}/`)
        .replace("CONNECT H", `CONNECT ${app.host}`);
    const smuggled = `GET /smuggled HTTP/1.1\r\nHost: ${app.host}\r\n\r\n`;
    const refused = await rawExchange(app.port, spell(send) + smuggled, { timeoutMs: 3000 });
    expect(refused.statuses).toHaveLength(1);
    expect(refused.statuses[0]).toBeGreaterThanOrEqual(400);
    expect(refused.closed).toBe(true);
    expect(refused.text).not.toContain("/smuggled");
    const answered = await rawExchange(app.port, spell(near), {
      enough: (text) => text.includes('"method"'),
    });
    expect(answered.statuses).toEqual([200]);
  },
);

hostsTest(
  "what comes out of the gateway is one request, whatever came in pieces",
  async ({ app }) => {
    const request = `POST /pieces HTTP/1.1\r\nHost: ${app.host}\r\nContent-Length: 11\r\nConnection: close\r\n\r\nhello world`;
    const { text } = await rawExchange(app.port, [...request], { pauseMs: 0 });
    expect(text).toContain('"body":"hello world"');
  },
);

hostsTest(
  "requests of one connection go each to its own host",
  async ({ app, api, createSandbox }) => {
    const other = await createSandbox({ ports: [PORT], visibility: "public" });
    await api.write(
      other.id,
      "/home/user/other.cjs",
      ECHO.replace("const seen", 'const other = "OTHER"; const seen').replace(
        "body })",
        "body, other })",
      ),
    );
    await api.json("POST", `/v1/sandboxes/${other.id}/processes`, {
      body: { command: ["node", "/home/user/other.cjs"] },
    });
    const otherHost = previewHost(other.id, PORT, app.port);
    await until(
      "the other app answers",
      async () => (await api.call("GET", "/", { headers: { host: otherHost } })).status === 200,
    );
    const get = (target: string, host: string) => `GET ${target} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
    const bytes =
      get("/1", app.host) +
      get("/2", otherHost) +
      get("/healthz", "localhost") +
      get("/4", app.host);
    const { text, statuses } = await rawExchange(app.port, bytes, {
      enough: (seen) => seen.includes("/4"),
    });
    expect(statuses).toEqual([200, 200, 200, 200]);
    const order = ["/1", '"/2"', "OTHER", '"/4"'].map((needle) => text.indexOf(needle));
    expect(order).toEqual(order.toSorted((a, b) => a - b));
    expect(Math.min(...order)).toBeGreaterThan(-1);
  },
);

hostsTest(
  "tokens, cookies of ours and identity headers never reach the app, others do byte for byte",
  async ({ app, daemon }) => {
    const lines = [
      `Host: ${app.host}`,
      `Authorization: Bearer ${daemon.token}`,
      "Cookie: a=1; __Host-belljar=secret; b=2",
      "X-Belljar-Token: secret",
      "X_Belljar_Token: secret",
      "x-belljar.user: root",
      "X-Forwarded-For: 6.6.6.6",
      "X-Custom: Kept As Is",
      "Connection: close",
    ];
    const { text } = await rawExchange(app.port, `GET / HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
    expect(text).not.toContain("secret");
    expect(text).not.toContain(daemon.token);
    expect(text).not.toContain("6.6.6.6");
    expect(text).toContain("a=1; b=2");
    expect(text).toContain("Kept As Is");
    const app2 = await rawExchange(
      app.port,
      `GET / HTTP/1.1\r\nHost: ${app.host}\r\nAuthorization: Basic YTpi\r\nConnection: close\r\n\r\n`,
    );
    expect(app2.text).toContain("Basic YTpi");
  },
);

hostsTest(
  "a head that comes too slowly is given up, and others are served meanwhile",
  async ({ app }) => {
    const slow = rawExchange(app.port, [`GET / HTTP/1.1\r\nHost: ${app.host}\r\n`, "X: 1"], {
      timeoutMs: 30_000,
      pauseMs: 1000,
    });
    const quick = await rawExchange(
      app.port,
      `GET / HTTP/1.1\r\nHost: ${app.host}\r\nConnection: close\r\n\r\n`,
    );
    expect(quick.statuses).toEqual([200]);
    const given = await slow;
    expect(given.closed).toBe(true);
    expect(given.statuses.every((status) => status === 408)).toBe(true);
  },
);
