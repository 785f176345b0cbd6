import { expect, test } from "vitest";
import {
  type DaemonProcess,
  settledLeftovers,
  startDaemon,
  stopAndLook,
} from "./support/daemon-process.ts";
import { guestPids } from "./support/guests.ts";
import { allPids } from "./support/leftovers.ts";
import { temporaryDirectory, until } from "./support/machine.ts";
import { readFileSync } from "node:fs";

const NOTHING = { processes: [], mounts: [], cgroups: [], sockets: [] };
const CREATES = 50;

/** Starts fifty creates, calls `break_` when some have answered, and waits for all outcomes. */
async function createsWhile(
  daemon: DaemonProcess,
  answeredBefore: number,
  break_: () => Promise<void> | void,
) {
  const count = { answered: 0 };
  const half = Promise.withResolvers<void>();
  const creates = Array.from({ length: CREATES }, async () => {
    const answer = await daemon.api.call("POST", "/v1/sandboxes", {
      body: { metadata: { set: "crash" } },
    });
    count.answered += 1;
    if (count.answered >= answeredBefore) half.resolve();
    if (answer.status >= 300) return undefined;
    return (JSON.parse(answer.body.toString()) as { id: string }).id;
  });
  // Settled from the start: what is cut off while `break_` works must not count as unhandled.
  const all = Promise.allSettled(creates);
  await Promise.race([half.promise, all]);
  await break_();
  const settled = await all;
  return settled.flatMap((one) =>
    one.status === "fulfilled" && one.value !== undefined ? [one.value] : [],
  );
}

/** Every row is settled, every acknowledged create is there and works, and nothing runs without a row. */
async function expectConverged(
  daemon: DaemonProcess,
  acknowledged: readonly string[],
): Promise<void> {
  await until(
    "no row is being created",
    async () => (await daemon.api.list()).every(({ state }) => state !== "creating"),
    { timeoutMs: 60_000 },
  );
  const rows = await daemon.api.list();
  const known = new Set(rows.map(({ id }) => id));
  expect(acknowledged.filter((id) => !known.has(id))).toEqual([]);
  await until(
    "as many guests run as rows say",
    async () => {
      const running = (await daemon.api.list()).filter(
        ({ state }) => state === "running" || state === "frozen",
      );
      return running.length === guestPids(daemon.dataDir).length;
    },
    { timeoutMs: 40_000, stepMs: 200 },
  );
  for (const id of acknowledged.slice(0, 5)) {
    const { exitCode } = await daemon.api.exec(id, ["true"]);
    expect(exitCode).toBe(0);
  }
}

test.for([1, 10, 25, 45])(
  "kill -9 of the daemon after %i of 50 creates loses no answered one and leaves no orphan",
  async (answered) => {
    using directory = temporaryDirectory("crash");
    const first = await startDaemon({ dataDir: directory.path });
    const acknowledged = await createsWhile(first, answered, () => first.kill());
    expect(acknowledged.length).toBeGreaterThanOrEqual(answered);
    const second = await startDaemon({ dataDir: directory.path, token: first.token });
    await expectConverged(second, acknowledged);
    expect(await stopAndLook(second)).toEqual(NOTHING);
    await second[Symbol.asyncDispose]();
  },
);

function wardenPid(dataDir: string): number {
  const found = allPids().find((pid) => {
    try {
      const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      return /warden/.test(argv.split("\0")[0] ?? "") && argv.includes(dataDir);
    } catch {
      return false;
    }
  });
  if (found === undefined) throw new Error("no warden runs");
  return found;
}

test("kill -9 of the warden in the middle of 50 creates ends no running sandbox and leaves no orphan", async () => {
  using directory = temporaryDirectory("crash");
  const daemon = await startDaemon({ dataDir: directory.path });
  const before = await daemon.api.create();
  await daemon.api.exec(before.id, "echo alive > /tmp/alive");
  const acknowledged = await createsWhile(daemon, 5, () => {
    process.kill(wardenPid(directory.path), "SIGKILL");
  });
  await expectConverged(daemon, [before.id, ...acknowledged]);
  // /tmp is memory: the file is there only if the sandbox was never restarted.
  expect((await daemon.api.exec(before.id, "cat /tmp/alive")).stdout).toBe("alive\n");
  expect(await stopAndLook(daemon)).toEqual(NOTHING);
  await daemon[Symbol.asyncDispose]();
});

test("kill -9 of guests in the middle of 50 creates leaves rows that say so", async () => {
  using directory = temporaryDirectory("crash");
  const daemon = await startDaemon({ dataDir: directory.path });
  const acknowledged = await createsWhile(daemon, 10, () => {
    for (const pid of guestPids(directory.path).slice(0, 5)) process.kill(pid, "SIGKILL");
  });
  await expectConverged(daemon, acknowledged);
  expect(await stopAndLook(daemon)).toEqual(NOTHING);
  await daemon[Symbol.asyncDispose]();
});

test("sandboxes live on while the daemon restarts", async () => {
  using directory = temporaryDirectory("crash");
  const first = await startDaemon({ dataDir: directory.path });
  const { id } = await first.api.create();
  await first.api.exec(id, "echo alive > /tmp/alive");
  await first.kill();
  const second = await startDaemon({ dataDir: directory.path, token: first.token });
  expect((await second.api.get(id)).state).toBe("running");
  expect((await second.api.exec(id, "cat /tmp/alive")).stdout).toBe("alive\n");
  expect(await stopAndLook(second)).toEqual(NOTHING);
  await second[Symbol.asyncDispose]();
});

test("a daemon that is stopped answers what is in flight and keeps what is stored", async () => {
  using directory = temporaryDirectory("drain");
  const first = await startDaemon({ dataDir: directory.path });
  const { id } = await first.api.create();
  await first.api.write(id, "/home/user/kept", "kept");
  const inFlight = first.api.exec(id, "sleep 1; echo done");
  await until(
    "the command runs",
    async () =>
      (await first.api.exec(id, "grep -lax 'sleep' /proc/[0-9]*/comm 2>/dev/null")).stdout !== "",
  );
  const stopping = first.stop();
  expect((await inFlight).stdout).toBe("done\n");
  expect(await stopping).toBe(0);
  const second = await startDaemon({ dataDir: directory.path, token: first.token });
  expect((await second.api.read(id, "/home/user/kept")).toString()).toBe("kept");
  expect(await stopAndLook(second)).toEqual(NOTHING);
  await second[Symbol.asyncDispose]();
  expect(await settledLeftovers(directory.path, [id])).toEqual(NOTHING);
});
