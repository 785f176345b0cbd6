import { once } from "node:events";
import type { Duplex } from "node:stream";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { encodeFrame, Fields, FieldWriter, FrameDecoder, OP, SAY, SEND, TAG } from "./frames.ts";
import { type Build, BUILDS, type GuestProcess, run, startGuest } from "./testing/guest-process.ts";

describe.for(BUILDS)("the guest's side of the protocol, %s", (build: Build) => {
  let guest: GuestProcess;
  beforeAll(async () => {
    guest = await startGuest(build);
  });
  afterAll(async () => guest[Symbol.asyncDispose]());

  /** Sends bytes as they are; the frames that came until the guest closed. */
  async function send(...parts: Uint8Array[]): Promise<{ type: number; payload: Uint8Array }[]> {
    const socket = await guest.connect();
    const frames: { type: number; payload: Uint8Array }[] = [];
    const decoder = new FrameDecoder();
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) =>
      decoder.push(chunk, (type, payload) => frames.push({ type, payload })),
    );
    for (const part of parts) socket.write(part);
    await Promise.race([once(socket, "end"), once(socket, "close")]);
    socket.destroy();
    return frames;
  }
  async function errorCode(...parts: Uint8Array[]): Promise<string> {
    const [frame] = await send(...parts);
    if (frame?.type !== SAY.error) throw new Error(`frame ${frame?.type}`);
    return new Fields(frame.payload).text(TAG.code);
  }
  const argument = () => new FieldWriter().put(TAG.arg, "true");

  test("refuses requests that are not well-formed, each with an error and then the end", async () => {
    const wrong: [string, Buffer][] = [
      ["unknown type", encodeFrame(99)],
      ["type of the guest", encodeFrame(SAY.ok)],
      ["type of a later frame", encodeFrame(SEND.stdin, Buffer.from("x"))],
      ["missing argument", encodeFrame(OP.exec)],
      ["unknown tag", argument().put(200, "x").frame(OP.exec)],
      ["tag of another request", argument().put(TAG.path, "/x").frame(OP.exec)],
      ["repeated tag", argument().put(TAG.cwd, "/").put(TAG.cwd, "/").frame(OP.exec)],
      ["NUL in a string", argument().put(TAG.cwd, "/\0").frame(OP.exec)],
      ["NUL in an argument", argument().put(TAG.arg, "a\0").frame(OP.exec)],
      ["empty string", argument().put(TAG.user, "").frame(OP.exec)],
      ["long tag", argument().put(TAG.tag, "x".repeat(65)).frame(OP.exec)],
      ["short number", argument().put(TAG.flags, Buffer.alloc(3)).frame(OP.exec)],
      ["unknown flags", argument().u32(TAG.flags, 8).frame(OP.exec)],
      ["columns out of range", argument().u32(TAG.columns, 70_000).frame(OP.exec)],
      ["environment without =", argument().put(TAG.env, "A").frame(OP.exec)],
      ["environment without name", argument().put(TAG.env, "=a").frame(OP.exec)],
      ["empty command", new FieldWriter().put(TAG.arg, "").frame(OP.exec)],
      ["trailing bytes", encodeFrame(OP.hello, Buffer.from([1, 2, 3]))],
      ["field past the end", encodeFrame(OP.exec, Buffer.from([TAG.arg, 10, 0, 0, 65]))],
      ["long path", new FieldWriter().put(TAG.path, `/${"x".repeat(4095)}`).frame(OP.stat)],
      [
        "unknown file flags",
        new FieldWriter().put(TAG.path, "/").u32(TAG.flags, 4096).frame(OP.stat),
      ],
      [
        "mode out of range",
        new FieldWriter().put(TAG.path, "/x").u32(TAG.mode, 0o10000).frame(OP.mkdir),
      ],
      ["both pid and tag", new FieldWriter().u32(TAG.pid, 1).put(TAG.tag, "a").frame(OP.attach)],
      ["port 0", new FieldWriter().u32(TAG.port, 0).frame(OP.port)],
      ["port 65536", new FieldWriter().u32(TAG.port, 65_536).frame(OP.port)],
    ];
    for (const [what, bytes] of wrong) {
      const code = what === "long path" ? "bad-request" : "bad-request";
      expect([what, await errorCode(bytes)]).toEqual([what, code]);
    }
    expect((await send(argument().frame(OP.exec))).map(({ type }) => type)).toEqual([
      SAY.started,
      SAY.exit,
    ]);
  });

  test("refuses a request beyond 1 MiB at its header, also when the client goes on sending", async () => {
    const header = Buffer.alloc(8);
    header.writeUInt32LE(1024 * 1024 + 1);
    header[4] = OP.exec;
    expect(await errorCode(header)).toBe("too-large");
    expect(await errorCode(header, Buffer.alloc(1024 * 1024 + 1))).toBe("too-large");
    const reserved = encodeFrame(OP.hello);
    reserved[5] = 1;
    expect(await errorCode(reserved)).toBe("bad-request");
  });

  test("refuses later frames that do not belong, and a body that is not one", async () => {
    const cat = new FieldWriter().put(TAG.arg, "cat").u32(TAG.flags, 1).frame(OP.exec);
    const last = (await send(cat, encodeFrame(SEND.data, Buffer.from("x")))).at(-1);
    expect(last?.type).toBe(SAY.error);
    const write = new FieldWriter().put(TAG.path, `${guest.directory}/never`).frame(OP.write);
    expect(await errorCode(write, encodeFrame(SEND.stdin, Buffer.from("x")))).toBe("bad-request");
    await expect(guest.client.stat(`${guest.directory}/never`)).rejects.toMatchObject({
      code: "FILE_NOT_FOUND",
    });
  });

  test("no bytes bring it down", { timeout: 120_000 }, async () => {
    const tag = fc.integer({ min: 0, max: 40 });
    const value = fc.oneof(
      fc.uint8Array({ maxLength: 20 }),
      fc.uint8Array({ minLength: 4, maxLength: 4 }),
    );
    // Everything but what would end it, or change the machine: SHUTDOWN, and operations that write.
    const type = fc.constantFrom(
      0,
      OP.hello,
      OP.exec,
      OP.attach,
      OP.processes,
      OP.signal,
      OP.forget,
      OP.stat,
      OP.list,
      OP.read,
      OP.xattrGet,
      OP.port,
      OP.ports,
      35,
      64,
      128,
      255,
    );
    const request = fc
      .record({ type, fields: fc.array(fc.tuple(tag, value), { maxLength: 5 }) })
      .map(({ type: op, fields }) => {
        const writer = new FieldWriter();
        for (const [key, bytes] of fields) writer.put(key, bytes);
        return Uint8Array.from(writer.frame(op));
      });
    const input = fc.oneof(fc.uint8Array({ maxLength: 64 }), request);
    await fc.assert(
      fc.asyncProperty(input, fc.nat(), async (bytes, cut) => {
        const socket = await guest.connect();
        socket.on("error", () => undefined);
        socket.write(bytes.subarray(0, cut % (bytes.length + 1)));
        socket.write(bytes.subarray(cut % (bytes.length + 1)));
        socket.resume();
        await once(socket, "connect");
        socket.end();
        await once(socket, "close");
      }),
      { numRuns: build === "guest" ? 1500 : 400 },
    );
    expect((await run(guest.client, ["echo", "alive"])).stdout).toBe("alive\n");
  });

  test("takes a request byte by byte", async () => {
    const socket = await guest.connect();
    const answer = once(socket, "data");
    for (const byte of encodeFrame(OP.hello)) {
      socket.write(Uint8Array.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect((await answer)[0][4]).toBe(SAY.ok);
    socket.destroy();
  });

  test(
    "closes a connection whose request does not come, and one whose request stops",
    { timeout: 40_000 },
    async () => {
      const silent = await guest.connect();
      const stopped = await guest.connect();
      stopped.write(encodeFrame(OP.hello).subarray(0, 5));
      for (const socket of [silent, stopped]) socket.resume().on("error", () => undefined);
      await Promise.all([once(silent, "close"), once(stopped, "close")]);
    },
  );

  test("a flood of silent connections does not lock others out", { timeout: 60_000 }, async () => {
    const flood: Duplex[] = await Promise.all(Array.from({ length: 600 }, () => guest.connect()));
    for (const socket of flood) socket.on("error", () => undefined);
    expect((await run(guest.client, ["echo", "in"])).stdout).toBe("in\n");
    for (const socket of flood) socket.destroy();
    expect((await run(guest.client, ["echo", "after"])).stdout).toBe("after\n");
  });

  test(
    "clients that leave in the middle of everything leave nothing behind",
    { timeout: 60_000 },
    async () => {
      const requests = [
        new FieldWriter().put(TAG.arg, "sleep").put(TAG.arg, "600").frame(OP.exec),
        new FieldWriter().put(TAG.arg, "yes").frame(OP.exec),
        new FieldWriter().put(TAG.path, "/dev").u32(TAG.flags, 16).frame(OP.watch),
        new FieldWriter().put(TAG.path, `${guest.directory}/half`).frame(OP.write),
        encodeFrame(OP.hello),
      ];
      for (let i = 0; i < 100; i++) {
        const socket = await guest.connect();
        socket.on("error", () => undefined);
        await once(socket, "connect");
        socket.write(requests[i % requests.length] ?? Buffer.alloc(0));
        if (i % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
        socket.destroy();
      }
      await expect
        .poll(async () => (await guest.client.stats()).processCount, { timeout: 20_000 })
        .toBe(2);
      expect(await guest.client.processes()).toEqual([]);
    },
  );
});
