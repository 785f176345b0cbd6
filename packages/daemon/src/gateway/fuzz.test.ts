import { Agent, createServer, request as httpRequest, type IncomingMessage } from "node:http";
import fc from "fast-check";
import { expect, test } from "vitest";
import { listening, rawApp, RawClient } from "./testing/raw.ts";
import { createWorld } from "./testing/world.ts";

const RUN_COUNT = 3_000;

const SEEDS = [
  "GET /a?b=c HTTP/1.1\r\nHost: HOST\r\nA: b\r\n\r\n",
  "POST /p HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello",
  "POST /c HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n",
  "GET http://HOST/abs HTTP/1.1\r\nConnection: keep-alive, x\r\nX: 1\r\nHost: HOST\r\n\r\n",
];
const BYTES = [
  "\r",
  "\n",
  "\r\n",
  " ",
  "\t",
  ":",
  "\0",
  ";",
  ",",
  "0",
  "1",
  "a",
  "\x0b",
  "\x7f",
  "\xff",
  "chunked",
  "Content-Length: 4\r\n",
  "Transfer-Encoding: chunked\r\n",
  "Host: x\r\n",
  "GET / HTTP/1.1\r\n",
];

/** What node:http refuses for other reasons than framing: methods it does not know, and connections we cut. */
const HARMLESS = new Set(["ECONNRESET", "HPE_INVALID_EOF_STATE", "HPE_INVALID_METHOD"]);

const mutation = fc.record({
  at: fc.nat({ max: 200 }),
  remove: fc.nat({ max: 3 }),
  insert: fc.constantFrom("", ...BYTES),
});

/**
 * What we let through, a strict second parser (node:http, behind us) must read as the same number of
 * requests with the same targets and bodies as we forwarded: otherwise one of them is smuggled.
 */
test(
  "no mutation of a request is read differently by the app than by the gateway",
  { timeout: 120_000 },
  async () => {
    const seen: { url: string; body: string }[] = [];
    const clientErrors: string[] = [];
    const app = createServer((request: IncomingMessage, response) => {
      let body = "";
      request.setEncoding("latin1");
      request.on("data", (part: string) => {
        body += part;
      });
      request.on("end", () => {
        seen.push({ url: request.url ?? "", body });
        response.end("ok");
      });
    });
    app.on("clientError", (error: NodeJS.ErrnoException, socket) => {
      if (!HARMLESS.has(error.code ?? "")) clientErrors.push(error.code ?? "");
      socket.destroy();
    });
    const appPort = await listening(app);
    await using world = await createWorld();
    world.ports.set(3000, appPort);
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...SEEDS),
        fc.array(mutation, { maxLength: 3 }),
        fc.array(fc.nat({ max: 150 }), { maxLength: 4 }),
        async (seed, mutations, cuts) => {
          const bytes = mutated(seed.replaceAll("HOST", world.host()), mutations);
          seen.length = 0;
          clientErrors.length = 0;
          using client = await RawClient.to(world.port);
          let from = 0;
          for (const cut of cuts.map((cut) => cut % bytes.length).toSorted((a, b) => a - b)) {
            client.send(bytes.slice(from, cut));
            from = cut;
            await new Promise(setImmediate);
          }
          // A last request that is certainly whole tells where the gateway thinks the first one ended.
          client.send(
            `${bytes.slice(from)}GET /last HTTP/1.1\r\nHost: ${world.host()}\r\nConnection: close\r\n\r\n`,
          );
          const text = await untilSettled(client);
          const answered = (text.match(/HTTP\/1\.1 200 /g) ?? []).length;
          expect(clientErrors).toEqual([]);
          expect(seen.length).toBe(answered);
          expect(seen.filter(({ url }) => url.includes(" ") || !/^[/*]/.test(url))).toEqual([]);
        },
      ),
      { numRuns: RUN_COUNT, endOnFailure: true },
    );
    app.closeAllConnections();
    app.close();
  },
);

const ANSWERS = [
  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\n\r\nhello",
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n",
  "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nB: c\r\n\r\n",
  "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nuntil the end",
];

/** Whatever an app sends, a strict client reads one valid answer or a closed connection, and the next answer is the API's own. */
test(
  "no mutation of an answer desynchronises the client's connection",
  { timeout: 120_000 },
  async () => {
    let answer = "";
    await using app = await rawApp((socket) =>
      socket.once("data", () => socket.end(answer, "latin1")),
    );
    await using world = await createWorld();
    world.ports.set(3000, app.port);
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...ANSWERS),
        fc.array(mutation, { maxLength: 3 }),
        async (seed, mutations) => {
          answer = mutated(seed, mutations);
          const agent = new Agent({ keepAlive: true, maxSockets: 1 });
          const first = await ask(agent, world.port, world.host());
          expect(first).not.toMatch(/^HPE_/);
          expect(await ask(agent, world.port, "localhost")).toBe("200 api");
          agent.destroy();
        },
      ),
      { numRuns: RUN_COUNT, endOnFailure: true },
    );
  },
);

/** `status body`, or the error's code. */
async function ask(agent: Agent, port: number, host: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const request = httpRequest({ agent, port, headers: { host } }, (response) => {
    let body = "";
    response.setEncoding("latin1");
    response.on("data", (part: string) => {
      body += part;
    });
    response.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? ""));
    response.on("end", () => resolve(`${response.statusCode} ${body}`));
  });
  request.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? ""));
  request.end();
  return await promise;
}

interface Mutation {
  at: number;
  remove: number;
  insert: string;
}

function mutated(seed: string, mutations: readonly Mutation[]): string {
  let bytes = seed;
  for (const { at, remove, insert } of mutations) {
    const place = at % bytes.length;
    bytes = bytes.slice(0, place) + insert + bytes.slice(place + remove);
  }
  return bytes;
}

/** Until the gateway closes, or has nothing more to say because it waits for more bytes of a body or a head. */
async function untilSettled(client: RawClient): Promise<string> {
  const timer = setTimeout(() => client.socket.destroy(), 60);
  const text = await client.untilClosed();
  clearTimeout(timer);
  return text;
}
