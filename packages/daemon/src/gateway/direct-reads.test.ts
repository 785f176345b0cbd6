import { once } from "node:events";
import { createServer, Socket } from "node:net";
import { duplexPair } from "node:stream";
import { expect, test } from "vitest";
import { kept, readDirectly } from "./direct-reads.ts";
import { listening, RawClient } from "./testing/raw.ts";

/** The two ends of a TCP connection: the accepted socket, and the one that sends. */
async function pair(): Promise<Disposable & { accepted: Socket; far: RawClient }> {
  const server = createServer({ allowHalfOpen: true });
  const port = await listening(server);
  const [far, [accepted]] = await Promise.all([
    RawClient.to(port),
    once(server, "connection") as Promise<[Socket]>,
  ]);
  server.close();
  return {
    accepted,
    far,
    [Symbol.dispose]() {
      far.socket.destroy();
      accepted.destroy();
    },
  };
}

/** Collects chunks, and waits until they make `text`. */
function collector(): {
  onChunk: (chunk: Buffer) => void;
  chunks: Buffer[];
  until: (text: string) => Promise<void>;
} {
  const chunks: Buffer[] = [];
  let wake = (): void => undefined;
  return {
    chunks,
    onChunk: (chunk) => {
      chunks.push(kept(chunk));
      wake();
    },
    until: async (text) => {
      while (Buffer.concat(chunks).toString("latin1") !== text)
        await new Promise<void>((resolve) => (wake = resolve));
    },
  };
}

test("a plain socket's reads are taken directly, and what was read stays what it was", async () => {
  using ends = await pair();
  const got = collector();
  const socket = readDirectly(ends.accepted, got.onChunk);
  expect(socket).not.toBe(ends.accepted);
  ends.far.send("first");
  await got.until("first");
  ends.far.send("second");
  await got.until("firstsecond");
  expect(got.chunks[0]?.toString()).toBe("first");
  socket.write("answer");
  expect(await ends.far.until((text) => text === "answer")).toBe("answer");
});

test("two sockets' bytes do not mix, though both arrive at one place", async () => {
  using one = await pair();
  using two = await pair();
  const [first, second] = [collector(), collector()];
  readDirectly(one.accepted, first.onChunk);
  readDirectly(two.accepted, second.onChunk);
  const [a, b] = ["a".repeat(300_000), "b".repeat(300_000)];
  one.far.send(a);
  two.far.send(b);
  await Promise.all([first.until(a), second.until(b)]);
});

test("an end is told once what came before it was given, and the other direction stays open", async () => {
  using ends = await pair();
  const got = collector();
  const socket = readDirectly(ends.accepted, got.onChunk);
  const ended = once(socket, "end");
  ends.far.socket.end("last words");
  await ended;
  expect(Buffer.concat(got.chunks).toString()).toBe("last words");
  socket.end("mine");
  expect(await ends.far.untilClosed()).toBe("mine");
});

test("a paused socket gives nothing until it is resumed", async () => {
  using ends = await pair();
  const got = collector();
  const socket = readDirectly(ends.accepted, got.onChunk);
  ends.far.send("one");
  await got.until("one");
  socket.pause();
  ends.far.send("two");
  // The answer to what is written now comes back only after "two" has arrived at this end's kernel.
  using control = await pair();
  const other = collector();
  readDirectly(control.accepted, other.onChunk);
  control.far.send("x");
  await other.until("x");
  expect(Buffer.concat(got.chunks).toString()).toBe("one");
  socket.resume();
  await got.until("onetwo");
});

test("whoever holds the first socket can close it, and hears when it is closed", async () => {
  using one = await pair();
  const socket = readDirectly(one.accepted, () => undefined);
  const closed = once(socket, "close");
  one.accepted.destroy();
  await closed;
  await one.far.untilClosed();
  using two = await pair();
  const told = once(two.accepted, "close");
  readDirectly(two.accepted, () => undefined).destroy();
  await told;
  await two.far.untilClosed();
});

test("a stream that is no plain socket at rest is listened to, with what it already holds", async () => {
  const [ours, theirs] = duplexPair();
  const got = collector();
  expect(readDirectly(ours, got.onChunk)).toBe(ours);
  theirs.write("pair");
  await got.until("pair");
  using ends = await pair();
  ends.far.send("early");
  await once(ends.accepted, "readable");
  const early = collector();
  expect(readDirectly(ends.accepted, early.onChunk)).toBe(ends.accepted);
  ends.far.send("late");
  await early.until("earlylate");
  using third = await pair();
  third.accepted.pause();
  third.accepted.unshift(Buffer.from("put back"));
  const back = collector();
  expect(readDirectly(third.accepted, back.onChunk)).toBe(third.accepted);
  await back.until("put back");
  class Wrapped extends Socket {}
  const wrapped = new Wrapped();
  expect(readDirectly(wrapped, () => undefined)).toBe(wrapped);
  wrapped.destroy();
});
