import { createServer } from "node:http";
import { expect, test } from "vitest";
import { listening, rawApp, RawClient } from "./testing/raw.ts";
import { createWorld } from "./testing/world.ts";

/** `HOST` stands for the preview's host. Each refusal stands beside the well-formed neighbour that passes. */
interface RequestRow {
  name: string;
  bad: string;
  status: number;
  good: string;
}

const chunked = (body: string) =>
  `POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n${body}`;
const get = (lines: string) => `GET / HTTP/1.1\r\nHost: HOST\r\n${lines}\r\n`;
const many = (count: number) =>
  Array.from({ length: count }, (_, index) => `X-${index}: 1\r\n`).join("");

const REQUESTS: RequestRow[] = [
  {
    name: "a bare LF after the request line",
    bad: "GET / HTTP/1.1\nHost: HOST\r\n\r\n",
    status: 400,
    good: get(""),
  },
  { name: "only bare LFs", bad: "GET / HTTP/1.1\nHost: HOST\n\n", status: 400, good: get("") },
  {
    name: "a bare LF in the fields",
    bad: get("A: 1\nB: 2\r\n"),
    status: 400,
    good: get("A: 1\r\nB: 2\r\n"),
  },
  {
    name: "a bare CR in a value",
    bad: get("A: 1\rB: 2\r\n"),
    status: 400,
    good: get("A: 1 B: 2\r\n"),
  },
  {
    name: "a bare CR in the request line",
    bad: "GET /\r HTTP/1.1\r\nHost: HOST\r\n\r\n",
    status: 400,
    good: get(""),
  },
  { name: "a folded line", bad: get("A: 1\r\n 2\r\n"), status: 400, good: get("A: 1\r\nB: 2\r\n") },
  {
    name: "a folded first line",
    bad: "GET / HTTP/1.1\r\n Host: HOST\r\n\r\n",
    status: 400,
    good: get(""),
  },
  {
    name: "a line folded by a tab",
    bad: get("A: 1\r\n\t2\r\n"),
    status: 400,
    good: get("A: 1\t2\r\n"),
  },
  { name: "a space before the colon", bad: get("A : 1\r\n"), status: 400, good: get("A: 1\r\n") },
  { name: "a tab before the colon", bad: get("A\t: 1\r\n"), status: 400, good: get("A:\t1\r\n") },
  { name: "an empty name", bad: get(": 1\r\n"), status: 400, good: get("A: \r\n") },
  { name: "a line without a colon", bad: get("Ab\r\n"), status: 400, good: get("Ab:\r\n") },
  { name: "a name with a slash", bad: get("A/b: 1\r\n"), status: 400, good: get("A-b: 1\r\n") },
  {
    name: "a name with a high byte",
    bad: get("A\xe4: 1\r\n"),
    status: 400,
    good: get("A: \xe4\r\n"),
  },
  { name: "NUL in a value", bad: get("A: 1\0\r\n"), status: 400, good: get("A: 1\r\n") },
  {
    name: "a vertical tab in a value",
    bad: get("A: 1\x0b2\r\n"),
    status: 400,
    good: get("A: 1\t2\r\n"),
  },
  { name: "DEL in a value", bad: get("A: 1\x7f\r\n"), status: 400, good: get("A: 1~\r\n") },
  {
    name: "two equal Content-Lengths",
    bad: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx`,
    status: 400,
    good: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\n\r\nx`,
  },
  {
    name: "two different Content-Lengths",
    bad: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx`,
    status: 400,
    good: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\n\r\nx`,
  },
  {
    name: "a list as Content-Length",
    bad: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1, 1\r\n\r\nx`,
    status: 400,
    good: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\n\r\nx`,
  },
  {
    name: "a signed Content-Length",
    bad: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: +1\r\n\r\nx`,
    status: 400,
    good: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\n\r\nx`,
  },
  {
    name: "a negative Content-Length",
    bad: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: -1\r\n\r\nx`,
    status: 400,
    good: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\n\r\nx`,
  },
  {
    name: "a hexadecimal Content-Length",
    bad: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0x1\r\n\r\nx`,
    status: 400,
    good: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\n\r\nx`,
  },
  {
    name: "an empty Content-Length",
    bad: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: \r\n\r\n`,
    status: 400,
    good: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n`,
  },
  {
    name: "a Content-Length beyond 2^53",
    bad: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 99999999999999999999\r\n\r\nx`,
    status: 400,
    good: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\n\r\nx`,
  },
  {
    name: "Content-Length with Transfer-Encoding",
    bad: `POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    status: 400,
    good: chunked("0\r\n\r\n"),
  },
  {
    name: "Transfer-Encoding with Content-Length",
    bad: `POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n`,
    status: 400,
    good: chunked("0\r\n\r\n"),
  },
  {
    name: "two Transfer-Encodings",
    bad: `POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    status: 400,
    good: chunked("0\r\n\r\n"),
  },
  {
    name: "Transfer-Encoding: identity",
    bad: `POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: identity\r\n\r\n`,
    status: 501,
    good: chunked("0\r\n\r\n"),
  },
  {
    name: "Transfer-Encoding: gzip, chunked",
    bad: `POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
    status: 501,
    good: chunked("0\r\n\r\n"),
  },
  {
    name: "Transfer-Encoding: xchunked",
    bad: `POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
    status: 501,
    good: `POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n`,
  },
  {
    name: "Transfer-Encoding behind a vertical tab",
    bad: `POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n`,
    status: 400,
    good: `POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n`,
  },
  {
    name: "Transfer-Encoding with a space before its colon",
    bad: `POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n`,
    status: 400,
    good: chunked("0\r\n\r\n"),
  },
  {
    name: "chunked in HTTP/1.0",
    bad: `POST / HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    status: 400,
    good: `POST / HTTP/1.0\r\nHost: HOST\r\nContent-Length: 1\r\n\r\nx`,
  },
  {
    name: "a chunk size with junk",
    bad: chunked("1g\r\nx\r\n0\r\n\r\n"),
    status: 400,
    good: chunked("1\r\nx\r\n0\r\n\r\n"),
  },
  {
    name: "a chunk size with 0x",
    bad: chunked("0x1\r\nx\r\n0\r\n\r\n"),
    status: 400,
    good: chunked("01\r\nx\r\n0\r\n\r\n"),
  },
  {
    name: "a signed chunk size",
    bad: chunked("+1\r\nx\r\n0\r\n\r\n"),
    status: 400,
    good: chunked("1\r\nx\r\n0\r\n\r\n"),
  },
  {
    name: "a space after the chunk size",
    bad: chunked("1 \r\nx\r\n0\r\n\r\n"),
    status: 400,
    good: chunked("1\r\nx\r\n0\r\n\r\n"),
  },
  {
    name: "a chunk size that overflows",
    bad: chunked("fffffffffffffffff\r\nx"),
    status: 400,
    good: chunked("1\r\nx\r\n0\r\n\r\n"),
  },
  {
    name: "a bare LF after the chunk size",
    bad: chunked("1\nx\r\n0\r\n\r\n"),
    status: 400,
    good: chunked("1\r\nx\r\n0\r\n\r\n"),
  },
  {
    name: "chunk data longer than its size",
    bad: chunked("1\r\nxy\r\n0\r\n\r\n"),
    status: 400,
    good: chunked("2\r\nxy\r\n0\r\n\r\n"),
  },
  {
    name: "chunk data shorter than its size",
    bad: chunked("3\r\nx\r\n0\r\n\r\n"),
    status: 400,
    good: chunked("1\r\nx\r\n0\r\n\r\n"),
  },
  {
    name: "chunk data without CRLF",
    bad: chunked("1\r\nx0\r\n\r\n"),
    status: 400,
    good: chunked("1\r\nx\r\n0\r\n\r\n"),
  },
  {
    name: "chunk extensions without end",
    bad: chunked(`1;${"a".repeat(5000)}\r\nx\r\n0\r\n\r\n`),
    status: 400,
    good: chunked("1;a=b\r\nx\r\n0\r\n\r\n"),
  },
  {
    name: "a bare LF in a chunk extension",
    bad: chunked("1;a\nx\r\n0\r\n\r\n"),
    status: 400,
    good: chunked("1;a\r\nx\r\n0\r\n\r\n"),
  },
  {
    name: "a trailer that is no field",
    bad: chunked("0\r\njunk\r\n\r\n"),
    status: 400,
    good: chunked("0\r\nA: b\r\n\r\n"),
  },
  {
    name: "a trailer with a bare LF",
    bad: chunked("0\r\nA: b\n\r\n\r\n"),
    status: 400,
    good: chunked("0\r\nA: b\r\n\r\n"),
  },
  {
    name: "too many trailers",
    bad: chunked(`0\r\nA: ${"b".repeat(9000)}\r\n\r\n`),
    status: 400,
    good: chunked("0\r\nA: b\r\n\r\n"),
  },
  { name: "no Host", bad: "GET / HTTP/1.1\r\n\r\n", status: 400, good: get("") },
  { name: "two Hosts", bad: get("Host: HOST\r\n"), status: 400, good: get("") },
  { name: "two different Hosts", bad: get("Host: localhost\r\n"), status: 400, good: get("") },
  { name: "an empty Host", bad: "GET / HTTP/1.1\r\nHost:\r\n\r\n", status: 400, good: get("") },
  {
    name: "user information in Host",
    bad: "GET / HTTP/1.1\r\nHost: a@HOST\r\n\r\n",
    status: 400,
    good: get(""),
  },
  {
    name: "a percent sign in Host",
    bad: "GET / HTTP/1.1\r\nHost: HOST%00\r\n\r\n",
    status: 400,
    good: get(""),
  },
  {
    name: "a slash in Host",
    bad: "GET / HTTP/1.1\r\nHost: HOST/x\r\n\r\n",
    status: 400,
    good: get(""),
  },
  {
    name: "two Hosts in one",
    bad: "GET / HTTP/1.1\r\nHost: HOST, localhost\r\n\r\n",
    status: 400,
    good: get(""),
  },
  {
    name: "two trailing dots",
    bad: "GET / HTTP/1.1\r\nHost: HOST..\r\n\r\n",
    status: 400,
    good: "GET / HTTP/1.1\r\nHost: HOST.\r\n\r\n",
  },
  {
    name: "port 0",
    bad: "GET / HTTP/1.1\r\nHost: HOST:0\r\n\r\n",
    status: 400,
    good: "GET / HTTP/1.1\r\nHost: HOST:80\r\n\r\n",
  },
  {
    name: "a port with a leading zero",
    bad: "GET / HTTP/1.1\r\nHost: HOST:080\r\n\r\n",
    status: 400,
    good: "GET / HTTP/1.1\r\nHost: HOST:80\r\n\r\n",
  },
  {
    name: "a port out of range",
    bad: "GET / HTTP/1.1\r\nHost: HOST:65536\r\n\r\n",
    status: 400,
    good: "GET / HTTP/1.1\r\nHost: HOST:65535\r\n\r\n",
  },
  {
    name: "an empty port",
    bad: "GET / HTTP/1.1\r\nHost: HOST:\r\n\r\n",
    status: 400,
    good: "GET / HTTP/1.1\r\nHost: HOST:80\r\n\r\n",
  },
  {
    name: "an absolute target of another host",
    bad: "GET http://localhost/ HTTP/1.1\r\nHost: HOST\r\n\r\n",
    status: 400,
    good: "GET http://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n",
  },
  {
    name: "an absolute target with user information",
    bad: "GET http://a@HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n",
    status: 400,
    good: "GET http://HOST?x HTTP/1.1\r\nHost: HOST\r\n\r\n",
  },
  {
    name: "an absolute target of another scheme",
    bad: "GET ftp://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n",
    status: 400,
    good: "GET https://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n",
  },
  {
    name: "a relative target",
    bad: "GET x HTTP/1.1\r\nHost: HOST\r\n\r\n",
    status: 400,
    good: "GET /x HTTP/1.1\r\nHost: HOST\r\n\r\n",
  },
  {
    name: "GET *",
    bad: "GET * HTTP/1.1\r\nHost: HOST\r\n\r\n",
    status: 400,
    good: "OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n",
  },
  {
    name: "a fragment",
    bad: "GET /#x HTTP/1.1\r\nHost: HOST\r\n\r\n",
    status: 400,
    good: "GET /%23x HTTP/1.1\r\nHost: HOST\r\n\r\n",
  },
  {
    name: "a high byte in the target",
    bad: "GET /\xe4 HTTP/1.1\r\nHost: HOST\r\n\r\n",
    status: 400,
    good: "GET /%e4 HTTP/1.1\r\nHost: HOST\r\n\r\n",
  },
  {
    name: "two spaces before the target",
    bad: "GET  / HTTP/1.1\r\nHost: HOST\r\n\r\n",
    status: 400,
    good: get(""),
  },
  {
    name: "a space in the target",
    bad: "GET /a b HTTP/1.1\r\nHost: HOST\r\n\r\n",
    status: 400,
    good: "GET /a+b HTTP/1.1\r\nHost: HOST\r\n\r\n",
  },
  {
    name: "a space after the version",
    bad: "GET / HTTP/1.1 \r\nHost: HOST\r\n\r\n",
    status: 400,
    good: get(""),
  },
  { name: "no version", bad: "GET /\r\nHost: HOST\r\n\r\n", status: 400, good: get("") },
  { name: "HTTP/1.2", bad: "GET / HTTP/1.2\r\nHost: HOST\r\n\r\n", status: 505, good: get("") },
  {
    name: "a lower-case version",
    bad: "GET / http/1.1\r\nHost: HOST\r\n\r\n",
    status: 400,
    good: get(""),
  },
  {
    name: "the preface of HTTP/2",
    bad: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    status: 505,
    good: get(""),
  },
  {
    name: "a TLS handshake",
    bad: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    status: 400,
    good: get(""),
  },
  {
    name: "two empty lines before the request",
    bad: `\r\n\r\n${get("")}`,
    status: 400,
    good: `\r\n${get("")}`,
  },
  {
    name: "CONNECT",
    bad: "CONNECT HOST:80 HTTP/1.1\r\nHost: HOST\r\n\r\n",
    status: 501,
    good: get(""),
  },
  {
    name: "TRACE",
    bad: "TRACE / HTTP/1.1\r\nHost: HOST\r\n\r\n",
    status: 501,
    good: "PROPFIND / HTTP/1.1\r\nHost: HOST\r\n\r\n",
  },
  {
    name: "a method with a bracket",
    bad: "G[T / HTTP/1.1\r\nHost: HOST\r\n\r\n",
    status: 400,
    good: "G-T / HTTP/1.1\r\nHost: HOST\r\n\r\n",
  },
  {
    name: "an unknown expectation",
    bad: get("Expect: 200-ok\r\n"),
    status: 417,
    good: get("Expect: 100-continue\r\n"),
  },
  { name: "101 header fields", bad: get(many(100)), status: 431, good: get(many(99)) },
  {
    name: "a head over 32 KiB",
    bad: get(`A: ${"a".repeat(33_000)}\r\n`),
    status: 431,
    good: get(`A: ${"a".repeat(31_000)}\r\n`),
  },
  {
    name: "a target over 16 KiB",
    bad: `GET /${"a".repeat(16_384)} HTTP/1.1\r\nHost: HOST\r\n\r\n`,
    status: 414,
    good: `GET /${"a".repeat(16_383)} HTTP/1.1\r\nHost: HOST\r\n\r\n`,
  },
  {
    name: "a Connection option that is no token",
    bad: get("Connection: a/b\r\n"),
    status: 400,
    good: get("Connection: a\r\n"),
  },
  {
    name: "a WebSocket upgrade by POST",
    bad: "POST / HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    status: 400,
    good: "POST / HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
  },
];

test("a connection on which a 204 announced a body is not used again", async () => {
  for (const [length, dialCount] of [
    ["5", 2],
    ["0", 1],
  ] as const) {
    await using app = await rawApp((socket) =>
      socket.on("data", () =>
        socket.write(`HTTP/1.1 204 No Content\r\nContent-Length: ${length}\r\n\r\n`),
      ),
    );
    await using world = await createWorld();
    world.ports.set(3000, app.port);
    using client = await RawClient.to(world.port);
    for (let answers = 1; answers <= 2; answers += 1) {
      client.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\n\r\n`);
      await client.until((text) => text.split("\r\n\r\n").length > answers);
    }
    expect(world.dialCount).toBe(dialCount);
  }
});

test("every malformed request is refused and reaches no app; its well-formed neighbour passes", async () => {
  const seen: string[] = [];
  await using app = await rawApp((socket) => {
    socket.setEncoding("latin1");
    let text = "";
    socket.on("data", (chunk: string) => {
      text += chunk;
      const isChunked = /transfer-encoding: chunked/i.test(text);
      const isBody = isChunked
        ? text.endsWith("0\r\n\r\n")
        : text.includes("\r\n\r\n") && !text.endsWith("Content-Length: 1\r\n\r\n");
      if (!isBody) return;
      seen.push(text);
      text = "";
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
  });
  await using world = await createWorld();
  world.ports.set(3000, app.port);
  for (const row of REQUESTS) {
    const host = world.host();
    seen.length = 0;
    using bad = await RawClient.to(world.port);
    bad.send(row.bad.replaceAll("HOST", host));
    const answer = await bad.untilClosed();
    expect([row.name, answer.slice(0, 12)]).toEqual([row.name, `HTTP/1.1 ${row.status}`]);
    expect([row.name, answer.match(/HTTP\/1\.1 [0-9]/g)?.length]).toEqual([row.name, 1]);
    expect([row.name, answer.includes('"code":"HTTP_')]).toEqual([row.name, true]);
    expect([row.name, seen]).toEqual([row.name, []]);
    using good = await RawClient.to(world.port);
    good.send(row.good.replaceAll("HOST", host));
    expect([row.name, await good.status()]).toEqual([row.name, 200]);
    expect([row.name, seen.length]).toEqual([row.name, 1]);
  }
});

interface ResponseRow {
  name: string;
  bad: string;
  good: string;
}

const ok = (lines: string, body = "") => `HTTP/1.1 200 OK\r\n${lines}\r\n${body}`;

const RESPONSES: ResponseRow[] = [
  { name: "no status line", bad: "hello\r\n\r\n", good: ok("Content-Length: 0\r\n") },
  {
    name: "HTTP/2.0",
    bad: "HTTP/2.0 200 OK\r\n\r\n",
    good: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
  },
  { name: "HTTP/0.9", bad: "<html>\r\n\r\n", good: "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n" },
  {
    name: "a status of two digits",
    bad: "HTTP/1.1 20 OK\r\n\r\n",
    good: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
  },
  {
    name: "a status of four digits",
    bad: "HTTP/1.1 2000 OK\r\n\r\n",
    good: "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
  },
  {
    name: "status 000",
    bad: "HTTP/1.1 000 OK\r\n\r\n",
    good: "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
  },
  {
    name: "status 600",
    bad: "HTTP/1.1 600 OK\r\n\r\n",
    good: "HTTP/1.1 599 OK\r\nContent-Length: 0\r\n\r\n",
  },
  {
    name: "a bare LF",
    bad: "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    good: ok("Content-Length: 0\r\n"),
  },
  {
    name: "a bare CR in a value",
    bad: ok("A: 1\rB: 2\r\nContent-Length: 0\r\n"),
    good: ok("A: 1\r\nB: 2\r\nContent-Length: 0\r\n"),
  },
  {
    name: "a folded line",
    bad: ok("A: 1\r\n 2\r\nContent-Length: 0\r\n"),
    good: ok("A: 1\r\nContent-Length: 0\r\n"),
  },
  {
    name: "NUL in a value",
    bad: ok("A: \0\r\nContent-Length: 0\r\n"),
    good: ok("A: \xff\r\nContent-Length: 0\r\n"),
  },
  {
    name: "a space before the colon",
    bad: ok("Content-Length : 0\r\n"),
    good: ok("Content-Length: 0\r\n"),
  },
  {
    name: "two Content-Lengths",
    bad: ok("Content-Length: 1\r\nContent-Length: 2\r\n", "x"),
    good: ok("Content-Length: 1\r\n", "x"),
  },
  {
    name: "two equal Content-Lengths",
    bad: ok("Content-Length: 1\r\nContent-Length: 1\r\n", "x"),
    good: ok("Content-Length: 1\r\n", "x"),
  },
  {
    name: "Content-Length with Transfer-Encoding",
    bad: ok("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    good: ok("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
  },
  {
    name: "Transfer-Encoding: gzip",
    bad: ok("Transfer-Encoding: gzip\r\n", "x"),
    good: ok("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
  },
  {
    name: "Transfer-Encoding in HTTP/1.0",
    bad: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    good: "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
  },
  {
    name: "a head over 32 KiB",
    bad: ok(`A: ${"a".repeat(33_000)}\r\nContent-Length: 0\r\n`),
    good: ok(`A: ${"a".repeat(31_000)}\r\nContent-Length: 0\r\n`),
  },
  {
    name: "101 header fields",
    bad: ok(`${many(101)}`),
    good: ok(`${many(99)}Content-Length: 0\r\n`),
  },
  {
    name: "101 without a request for it",
    bad: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    good: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
  },
  {
    name: "an interim answer that announces a body",
    bad: `HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n${ok("Content-Length: 0\r\n")}`,
    good: `HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n${ok("Content-Length: 0\r\n")}`,
  },
  {
    name: "interim answers without end",
    bad: "HTTP/1.1 102 Processing\r\n\r\n".repeat(20),
    good: `${"HTTP/1.1 102 Processing\r\n\r\n".repeat(3)}${ok("Content-Length: 0\r\n")}`,
  },
];

test("every malformed answer of an app becomes a 502; its well-formed neighbour passes", async () => {
  let answer = "";
  await using app = await rawApp((socket) => {
    socket.on("data", () => socket.end(answer, "latin1"));
  });
  await using world = await createWorld();
  world.ports.set(3000, app.port);
  const ask = async () => {
    using client = await RawClient.to(world.port);
    client.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\nConnection: close\r\n\r\n`);
    return await client.untilClosed();
  };
  for (const row of RESPONSES) {
    answer = row.bad;
    const bad = await ask();
    expect([row.name, bad]).toEqual([row.name, expect.stringMatching(/HTTP\/1\.1 502 /)]);
    expect([row.name, bad]).toEqual([row.name, expect.stringContaining("PREVIEW_BAD_RESPONSE")]);
    answer = row.good;
    expect([row.name, await ask()]).toEqual([
      row.name,
      expect.stringMatching(/^HTTP\/1\.1 [1-5][0-9]{2} /),
    ]);
    expect([row.name, await ask()]).toEqual([row.name, expect.not.stringContaining("PREVIEW_BAD")]);
  }
});

test("an answer that ends early never looks complete to the client", async () => {
  let answer = "";
  await using app = await rawApp((socket) => {
    socket.on("data", () => socket.end(answer, "latin1"));
  });
  await using world = await createWorld();
  world.ports.set(3000, app.port);
  for (const cut of [
    ok("Content-Length: 10\r\n", "short"),
    ok("Transfer-Encoding: chunked\r\n", "5\r\nshort\r\n"),
  ]) {
    answer = cut;
    const whole = await fetch(`http://127.0.0.1:${world.port}/`, {
      headers: { host: world.host() },
    }).catch(() => undefined);
    expect(whole?.headers.get("x-nothing")).not.toBe("x");
    using client = await RawClient.to(world.port);
    client.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\n\r\n`);
    const text = await client.untilClosed();
    expect(text).not.toMatch(/0\r\n\r\n$/);
    expect(
      text.startsWith("HTTP/1.1 200")
        ? text.includes("Content-Length: 10") || text.includes("chunked")
        : true,
    ).toBe(true);
  }
});

test("bytes behind an answer are never given to another request", async () => {
  await using app = await rawApp((socket, index) => {
    socket.on("data", () =>
      socket.write(
        `HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n${index}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison`,
      ),
    );
  });
  await using world = await createWorld();
  world.ports.set(3000, app.port);
  using client = await RawClient.to(world.port);
  for (let round = 0; round < 3; round += 1) {
    client.text = "";
    client.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\n\r\n`);
    const text = await client.until((all) => all.endsWith(String(round)));
    expect(text).toContain("200 OK");
    expect(text).not.toContain("poison");
  }
});

test("the strict parser guards the API as well", async () => {
  const apiServer = createServer((request, response) =>
    response.end(`${request.socket.remoteAddress} ${request.url}`),
  );
  await using world = await createWorld({ apiServer });
  using bad = await RawClient.to(world.port);
  bad.send(
    "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  );
  expect(await bad.status()).toBe(400);
  using good = await RawClient.to(world.port);
  good.send("GET /v1 HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n");
  expect(await good.until((text) => text.endsWith("/v1"))).toContain("127.0.0.1 /v1");
});

test("one keep-alive connection carries requests of different hosts, pipelined too, in order", async () => {
  const app = createServer((request, response) =>
    response.end(`app ${request.headers.host} ${request.url}`),
  );
  const appPort = await listening(app);
  await using world = await createWorld({
    apiServer: createServer((request, response) => response.end(`api ${request.url}`)),
  });
  world.ports.set(3000, appPort);
  using client = await RawClient.to(world.port);
  const lines = [
    ["/1", world.host()],
    ["/2", "localhost"],
    ["/3", world.host()],
    ["/4", "nobody.example"],
    ["/5", "127.0.0.1"],
  ];
  client.send(
    lines.map(([path, host]) => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`).join(""),
  );
  const text = await client.until((all) => all.endsWith("api /5"));
  const order = ["/1", "api /2", "/3", "HOST_REFUSED", "api /5"].map((mark) => text.indexOf(mark));
  expect(order).toEqual(order.toSorted((a, b) => a - b));
  expect(order).not.toContain(-1);
  expect(text).toContain("HTTP/1.1 421");
  app.close();
});
