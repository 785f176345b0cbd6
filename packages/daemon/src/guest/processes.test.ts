import { BelljarError } from "@belljar/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Build, BUILDS, type GuestProcess, run, startGuest } from "./testing/guest-process.ts";
import type { ExecSession } from "./types.ts";

const isCode = (code: string) => (error: unknown) => BelljarError.is(error) && error.code === code;

async function text(session: ExecSession): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const { data } of session.output) parts.push(data);
  return Buffer.concat(parts).toString();
}

/** Reads until the output so far has `wanted`, and leaves the rest to be read. */
async function until(session: ExecSession, wanted: string): Promise<string> {
  const iterator = session.output[Symbol.asyncIterator]();
  let seen = "";
  while (!seen.includes(wanted)) {
    const next = await iterator.next();
    if (next.done === true) throw new Error(`ended after ${JSON.stringify(seen)}`);
    seen += Buffer.from(next.value.data).toString();
  }
  return seen;
}

describe.for(BUILDS)("terminals, signals and kept commands, %s", (build: Build) => {
  let guest: GuestProcess;
  beforeAll(async () => {
    guest = await startGuest(build);
  });
  afterAll(async () => guest[Symbol.asyncDispose]());

  test("a terminal has the size asked for, and a new one after a resize", async () => {
    const session = await guest.client.exec({
      command: [
        "sh",
        "-c",
        "trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.02; done",
      ],
      env: { TERM: "xterm" },
      terminal: { columns: 91, rows: 33 },
    });
    await until(session, "33 91\r\n");
    session.resize({ columns: 120, rows: 40 });
    await until(session, "40 120\r\n");
    expect((await session.exited).exitCode).toBe(0);
  });

  test("a terminal is the command's own: ^C and ^D work", async () => {
    const terminal = { columns: 80, rows: 24 };
    const script = ["sh", "-c", "tty; cat; echo after"];
    const shell = await guest.client.exec({ command: script, env: {}, stdin: true, terminal });
    await until(shell, "/dev/pts/");
    await shell.writeStdin("hello\n");
    await until(shell, "hello\r\nhello\r\n");
    shell.endStdin();
    await until(shell, "after");
    expect((await shell.exited).exitCode).toBe(0);
    const cat = await guest.client.exec({ command: ["cat"], env: {}, stdin: true, terminal });
    await cat.writeStdin("here\n");
    await until(cat, "here\r\nhere\r\n");
    await cat.writeStdin("\u0003");
    expect(await cat.exited).toMatchObject({ signal: "SIGINT", reason: "signaled" });
  });

  test("signals go to the whole group, by name and by number", async () => {
    const start = () =>
      guest.client.exec({ command: ["sh", "-c", "sleep 100 & echo up; wait"], env: {} });
    const first = await start();
    await until(first, "up");
    first.signal("SIGINT");
    expect((await first.exited).reason).toBe("signaled");
    const second = await start();
    await until(second, "up");
    await guest.client.signalProcess({ pid: second.pid }, 9);
    expect((await second.exited).signal).toBe("SIGKILL");
    expect(() => first.signal("SIGNOPE")).toThrow("no signal");
  });

  test("a signal gets past input that the command does not read", async () => {
    const session = await guest.client.exec({ command: ["sleep", "600"], env: {}, stdin: true });
    void session.writeStdin(Buffer.alloc(5_000_000));
    session.signal("SIGTERM");
    expect((await session.exited).signal).toBe("SIGTERM");
  });

  test("a kept command outlives its connection and is attached to again, by tag and by pid", async () => {
    const first = await guest.client.exec({
      command: ["sh", "-c", "echo one; read line; echo got $line; exit 5"],
      env: {},
      stdin: true,
      keep: true,
      tag: "kept",
    });
    await until(first, "one\n");
    first.close();
    expect(await guest.client.processes()).toEqual([
      expect.objectContaining({
        pid: first.pid,
        tag: "kept",
        running: true,
        keep: true,
        exit: null,
        command: ["sh", "-c", expect.any(String)],
      }),
    ]);
    const again = await guest.client.attach({ tag: "kept" });
    expect(again.pid).toBe(first.pid);
    await until(again, "one\n");
    const watcher = await guest.client.attach({ pid: first.pid });
    await again.writeStdin("two\n");
    expect(await text(again)).toBe("got two\n");
    expect(await text(watcher)).toBe("one\ngot two\n");
    expect((await again.exited).exitCode).toBe(5);
    const late = await guest.client.attach({ tag: "kept" });
    expect(await text(late)).toBe("one\ngot two\n");
    expect((await late.exited).exitCode).toBe(5);
    expect((await guest.client.processes())[0]).toMatchObject({
      running: false,
      exit: { exitCode: 5 },
    });
    await guest.client.forget({ tag: "kept" });
    await expect(guest.client.attach({ tag: "kept" })).rejects.toSatisfy(
      isCode("PROCESS_NOT_FOUND"),
    );
  });

  test("keeps the newest 64 KiB of output, in order and with its streams", async () => {
    const session = await guest.client.exec({
      command: ["sh", "-c", "seq 1 40000; echo end >&2"],
      env: {},
      keep: true,
      tag: "ring",
    });
    const all = await text(session);
    const late = await guest.client.attach({ tag: "ring" });
    const kept = await text(late);
    expect(Buffer.byteLength(kept)).toBeGreaterThanOrEqual(60_000);
    expect(Buffer.byteLength(kept)).toBeLessThanOrEqual(82_000);
    expect(all.endsWith(kept)).toBe(true);
    await guest.client.forget({ tag: "ring" });
  });

  test("keeps 64 results at most, the newest", async () => {
    for (let i = 0; i < 70; i++) {
      const session = await guest.client.exec({
        command: ["true"],
        env: {},
        keep: true,
        tag: `r${i}`,
      });
      await session.exited;
    }
    const tags = (await guest.client.processes()).map(({ tag }) => tag);
    expect(tags).toHaveLength(64);
    expect(tags).toContain("r69");
    expect(tags).not.toContain("r5");
    for (const tag of tags) if (tag !== null) await guest.client.forget({ tag });
  });

  test("a tag is unique among the running, and free again afterwards", async () => {
    const first = await guest.client.exec({ command: ["sleep", "100"], env: {}, tag: "one" });
    await expect(guest.client.exec({ command: ["true"], env: {}, tag: "one" })).rejects.toSatisfy(
      isCode("EXEC_TAG_TAKEN"),
    );
    await expect(guest.client.forget({ tag: "one" })).rejects.toSatisfy(isCode("PROCESS_RUNNING"));
    first.signal("SIGKILL");
    await first.exited;
    expect((await run(guest.client, ["true"], { tag: "one" })).exitCode).toBe(0);
    await expect(guest.client.signalProcess({ tag: "one" }, "SIGTERM")).rejects.toSatisfy(
      isCode("PROCESS_NOT_FOUND"),
    );
  });

  test("the end of the guest is told as lost, not as an exit", async () => {
    await using other = await startGuest(build);
    const session = await other.client.exec({ command: ["sleep", "100"], env: {} });
    process.kill(other.pid, "SIGKILL");
    expect((await session.exited).reason).toBe("lost");
    await expect(other.client.hello()).rejects.toSatisfy(isCode("GUEST_UNREACHABLE"));
  });

  test("shutdown gives commands their grace, then ends everything", async () => {
    await using other = await startGuest(build);
    const polite = await other.client.exec({
      command: ["sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.02; done"],
      env: {},
    });
    const deaf = await other.client.exec({
      command: ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done"],
      env: {},
    });
    await until(polite, "up");
    await until(deaf, "up");
    await other.client.shutdown(700);
    expect(await text(polite)).toContain("bye\n");
    expect((await polite.exited).exitCode).toBe(3);
    expect((await deaf.exited).reason).toBe("lost");
    await expect(other.client.exec({ command: ["true"], env: {} })).rejects.toSatisfy(
      isCode("GUEST_UNREACHABLE"),
    );
  });

  test("an abort before the start cancels, one after it does nothing", async () => {
    const early = AbortSignal.abort();
    await expect(guest.client.exec({ command: ["true"], env: {} }, early)).rejects.toSatisfy(
      isCode("CANCELLED"),
    );
    const late = new AbortController();
    const session = await guest.client.exec(
      { command: ["sh", "-c", "echo on; exit 2"], env: {} },
      late.signal,
    );
    late.abort();
    expect((await session.exited).exitCode).toBe(2);
  });
});
