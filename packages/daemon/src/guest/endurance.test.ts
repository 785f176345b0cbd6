/** What a guest must bear for as long as its sandbox lives: every kind of end, and users who mean it ill. */
import { readFileSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Build, BUILDS, type GuestProcess, run, startGuest } from "./testing/guest-process.ts";
import type { ExecSession } from "./types.ts";

const isRoot = process.getuid?.() === 0;
/** How long a guest is watched, and what it may use of it; one that spins uses all of it */
const WATCH_MS = 300;
const BUSY_MS_MAX = 60;

const cpuMs = (guest: GuestProcess): number =>
  Number(readFileSync(`/proc/${guest.pid}/schedstat`, "utf8").split(" ")[0]) / 1e6;

const rtSigqueueinfo = process.arch === "x64" ? 129 : 138;

async function lines(session: ExecSession, wanted: string): Promise<void> {
  let seen = "";
  for await (const { data } of session.output) {
    seen += Buffer.from(data).toString();
    if (seen.includes(wanted)) return;
  }
  throw new Error(`ended after ${JSON.stringify(seen)}`);
}

const HOLDER = "sleep 600 & echo held";
const terminal = { columns: 80, rows: 24 };

/** Every way for a command to be over, or nearly */
const ENDS: Record<string, (guest: GuestProcess) => Promise<unknown>> = {
  "a command": ({ client }) => run(client, ["true"]),
  "a kept command": ({ client }) => run(client, ["echo", "x"], { keep: true }),
  "a kept command whose pipes are held": ({ client }) =>
    run(client, ["sh", "-c", HOLDER], { keep: true }),
  "a command whose pipes are held": ({ client }) => run(client, ["sh", "-c", HOLDER]),
  "a command whose pipes are held and written to": ({ client }) =>
    run(client, ["sh", "-c", "(sleep 0.6; echo late; sleep 600) & echo held"]),
  "a terminal": ({ client }) => run(client, ["true"], { terminal }),
  "a kept terminal": ({ client }) => run(client, ["true"], { terminal, keep: true }),
  "a terminal that is held": ({ client }) =>
    run(client, ["sh", "-c", "trap '' HUP; setsid sleep 600 & echo held"], { terminal }),
  "a program that does not exist": ({ client }) =>
    expect(client.exec({ command: ["/nowhere"], env: {} })).rejects.toThrow(),
  "a kept program that does not exist": ({ client }) =>
    expect(client.exec({ command: ["/nowhere"], env: {}, keep: true })).rejects.toThrow(),
  "an unknown user": ({ client }) =>
    expect(client.exec({ command: ["true"], env: {}, user: "nobody-at-all" })).rejects.toThrow(),
  "a time that is up": ({ client }) =>
    run(client, ["sh", "-c", "trap '' TERM; sleep 600"], { timeoutMs: 20, graceMs: 20 }),
  "a viewer who leaves": async ({ client }) => {
    const session = await client.exec({ command: ["sleep", "600"], env: {} });
    session.close();
  },
  "a viewer who leaves a kept command": async ({ client }) => {
    const session = await client.exec({ command: ["sleep", "600"], env: {}, keep: true });
    session.close();
  },
  "a viewer who leaves output and input behind": async ({ client }) => {
    const session = await client.exec({
      command: ["sh", "-c", "seq 100000; sleep 600"],
      env: {},
      stdin: true,
    });
    void session.writeStdin(Buffer.alloc(500_000));
    session.close();
  },
  "output closed by a command that lives": async ({ client }) => {
    const command = ["sh", "-c", "echo up; exec >&- 2>&-; sleep 600"];
    await lines(await client.exec({ command, env: {}, keep: true, stdin: true }), "up");
  },
  "input that nobody reads": async ({ client }) => {
    const session = await client.exec({ command: ["sleep", "600"], env: {}, stdin: true });
    void session.writeStdin(Buffer.alloc(500_000));
  },
  "output that nobody reads": async ({ client }) => {
    await client.exec({ command: ["yes"], env: {} });
  },
  "half a request": async (guest) => {
    (await guest.connect()).write(Buffer.from([9, 0, 0]));
  },
};

describe.for(BUILDS)("a guest that has seen everything end, %s", (build: Build) => {
  test.for(Object.keys(ENDS))("rests after %s", async (kind) => {
    await using guest = await startGuest(build);
    await ENDS[kind]?.(guest);
    await wait(2 * WATCH_MS); // the longest of its own short waits is 400 ms
    const before = cpuMs(guest);
    await wait(WATCH_MS);
    expect(cpuMs(guest) - before).toBeLessThan(BUSY_MS_MAX);
    await guest.client.hello();
  });
});

describe.for(BUILDS)("a guest among hostile commands, %s", (build: Build) => {
  let guest: GuestProcess;
  beforeAll(async () => {
    guest = await startGuest(build);
  });
  afterAll(async () => guest[Symbol.asyncDispose]());

  test("the result of the longest command is kept as the newest, not dropped as the oldest", async () => {
    const long = await guest.client.exec({
      command: ["sh", "-c", "read x; exit 9"],
      env: {},
      keep: true,
      stdin: true,
      tag: "long",
    });
    for (let i = 0; i < 65; i++) await run(guest.client, ["true"], { keep: true, tag: `k${i}` });
    long.endStdin();
    await long.exited;
    expect((await (await guest.client.attach({ tag: "long" })).exited).exitCode).toBe(9);
    for (const { pid } of await guest.client.processes()) await guest.client.forget({ pid });
  });

  test("commands and helpers are what the kernel ends when memory runs out, not the guest", async () => {
    const score = (pid: number) => Number(readFileSync(`/proc/${pid}/oom_score_adj`, "utf8"));
    const own = score(guest.pid);
    const said = await run(guest.client, ["cat", "/proc/self/oom_score_adj"]);
    expect(Number(said.stdout)).toBeGreaterThan(own);
    const watch = await guest.client.watch(guest.directory);
    const children = readFileSync(`/proc/${guest.pid}/task/${guest.pid}/children`, "utf8");
    const scores = children.trim().split(" ").map(Number).map(score);
    expect(Math.min(...scores)).toBeGreaterThan(own);
    expect(own).toBeGreaterThanOrEqual(0);
    await watch[Symbol.asyncIterator]().return?.();
  });

  test.skipIf(!isRoot)("no signal from inside ends it, not one of root's either", async () => {
    const script = `
      for my $signal (1 .. 31, 34 .. 64) { kill $signal, 1 }
      my $info = pack("iii x4 ii x104", 15, 0, -1, 0, 0);
      syscall(${rtSigqueueinfo}, 1, 15, $info);
      print "sent"`;
    for (const user of ["root", "1000"]) {
      expect((await run(guest.client, ["perl", "-e", script], { user })).stdout).toBe("sent");
      expect((await run(guest.client, ["echo", "up"])).stdout).toBe("up\n");
    }
  });

  test.skipIf(!isRoot)(
    "helpers that their user stops go on, and their places come free",
    async () => {
      const watch = await guest.client.watch(guest.directory, { user: "1000" });
      const changes = watch[Symbol.asyncIterator]();
      await run(guest.client, ["sh", "-c", "kill -STOP -1"], { user: "1000" });
      await run(guest.client, ["touch", `${guest.directory}/seen`]);
      const { value } = await changes.next();
      expect(value).toMatchObject({ path: "seen" });
      await changes.return?.();
    },
  );
});
