import { spawn } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  createReal,
  makeDataDir,
  removeDataDir,
  shell,
  startRealDaemon,
} from "./testing/real-daemon.ts";
import type { RealDaemon } from "./testing/real-daemon.ts";

const state: { dataDir?: string } = {};
let daemon: RealDaemon;

beforeAll(async () => {
  state.dataDir = await makeDataDir();
  daemon = await startRealDaemon(state.dataDir);
});

afterAll(async () => {
  for (const { id } of (await daemon.sandboxes.list({ limit: 1000 })).items) {
    await daemon.sandboxes.destroy(id as Parameters<RealDaemon["sandboxes"]["destroy"]>[0]);
  }
  await daemon[Symbol.asyncDispose]();
  if (state.dataDir !== undefined) await removeDataDir(state.dataDir);
});

test("what a sandbox wrote survives freeze, stop and wake", async () => {
  const id = await createReal(daemon);
  expect(await shell(daemon, id, "echo kept > ~/file; id -un")).toEqual({ code: 0, out: "user" });
  await daemon.sandboxes.freeze(id);
  expect(await shell(daemon, id, "cat ~/file")).toEqual({ code: 0, out: "kept" });
  await daemon.sandboxes.stop(id);
  expect(await daemon.driver.list()).toEqual([]);
  expect(await shell(daemon, id, "cat ~/file")).toEqual({ code: 0, out: "kept" });
  await daemon.sandboxes.destroy(id);
  expect(await daemon.driver.listVolumes()).toEqual([]);
});

test("a stop sends TERM and waits, also where the sandbox was frozen", async () => {
  const id = await createReal(daemon, {
    start: {
      command: [
        "/bin/sh",
        "-c",
        "trap 'sleep 0.3; echo bye > ~/last; exit' TERM; while :; do sleep 0.05; done",
      ],
    },
  });
  await expect
    .poll(() => shell(daemon, id, "pgrep -f 'trap .sleep' | wc -l"))
    .not.toMatchObject({ out: "0" });
  await daemon.sandboxes.freeze(id);
  await daemon.sandboxes.stop(id);
  await daemon.sandboxes.update(id, { metadata: { stopped: "yes" } });
  expect((await shell(daemon, id, "cat ~/last")).out).toBe("bye");
  await daemon.sandboxes.destroy(id);
});

test("a guest that is killed is told as stopped with the signal, and can be woken", async () => {
  const id = await createReal(daemon);
  const guestPid = await pidOfGuest(id);
  process.kill(guestPid, "SIGKILL");
  await expect
    .poll(() => daemon.sandboxes.get(id), { timeout: 10_000 })
    .toMatchObject({
      state: "stopped",
      error: { code: "GUEST_ENDED", message: expect.stringContaining("signal 9") },
    });
  expect(await shell(daemon, id, "echo again")).toEqual({ code: 0, out: "again" });
  await daemon.sandboxes.destroy(id);
});

test("the start command runs again when it ends, and its output can be read", async () => {
  const id = await createReal(daemon, {
    start: {
      command: ["/bin/sh", "-c", "echo run >> ~/runs; echo line; echo problem >&2; exit 3"],
    },
  });
  const exits = daemon.events.stream(0, { sandboxId: id, signal: AbortSignal.timeout(20_000) });
  for await (const event of exits) {
    if (event.type !== "start-command.exited") continue;
    expect(event.data).toMatchObject({ exitCode: 3, signal: null, restartInMs: 1000 });
    expect(String(event.data["outputTail"]).split("\n").toSorted()).toEqual([
      "",
      "line",
      "problem",
    ]);
    break;
  }
  await expect
    .poll(() => shell(daemon, id, "wc -l < ~/runs"), { timeout: 10_000 })
    .toMatchObject({ out: "2" });
  await daemon.sandboxes.destroy(id);
});

test("logs of the start command follow it until it ends", async () => {
  const id = await createReal(daemon, {
    start: {
      command: [
        "/bin/sh",
        "-c",
        "echo one; while [ ! -e ~/go ]; do sleep 0.05; done; echo two; exec sleep 1000",
      ],
    },
  });
  const read = async (follow: boolean) => {
    let text = "";
    for await (const { data } of daemon.sandboxes.startCommandLogs(id, { follow })) {
      text += Buffer.from(data).toString();
      if (text.includes("two")) break;
    }
    return text;
  };
  await expect.poll(() => read(false)).toBe("one\n");
  const following = read(true);
  await shell(daemon, id, "touch ~/go");
  expect(await following).toBe("one\ntwo\n");
  await daemon.sandboxes.destroy(id);
});

test("a daemon that is killed in the middle of fifty creates leaves nothing that another does not put right", async () => {
  const dataDir = await makeDataDir();
  const module = new URL("./testing/real-daemon.ts", import.meta.url).href;
  const program = `import { startRealDaemon, createReal } from ${JSON.stringify(module)};
    const daemon = await startRealDaemon(${JSON.stringify(dataDir)});
    let made = 0;
    for (let i = 0; i < 50; i++) createReal(daemon).then(() => { made += 1; if (made === 12) console.log("go"); });`;
  const args = ["-C", "belljar-source", "--input-type=module", "-e", program];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise<void>((resolve) => child.stdout.once("data", () => resolve()));
  child.kill("SIGKILL");
  await new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const next = await startRealDaemon(dataDir);
  try {
    await next.sandboxes.reconcile();
    const rows = await next.store.sandboxes.all((id) => expect.unreachable(id));
    expect(rows.filter((row) => row.pending !== null || row.state === "creating")).toEqual([]);
    const running = rows.filter((row) => row.state === "running").map((row) => row.id);
    expect(running.length).toBeGreaterThanOrEqual(12);
    expect((await next.driver.list()).map((found) => found.id).toSorted()).toEqual(
      running.toSorted(),
    );
    expect((await next.driver.listVolumes()).toSorted()).toEqual(running.toSorted());
    for (const id of running.slice(0, 3))
      expect((await shell(next, id, "echo fine")).out).toBe("fine");
    await Promise.all(rows.map((row) => next.sandboxes.destroy(row.id)));
    expect(await next.driver.list()).toEqual([]);
    expect(await next.driver.listVolumes()).toEqual([]);
    const mounts = await readFile("/proc/self/mounts", "utf8");
    expect(mounts).not.toContain(`${dataDir}/volumes`);
  } finally {
    await next[Symbol.asyncDispose]();
    await removeDataDir(dataDir);
  }
});

/** The guest is PID 1 of its namespace, in a cgroup that is named after its sandbox. */
async function pidOfGuest(id: string): Promise<number> {
  for (const pid of (await readdir("/proc")).filter((name) => /^[0-9]+$/.test(name))) {
    const cgroup = await readFile(`/proc/${pid}/cgroup`, "latin1").catch(() => "");
    if (!cgroup.includes(id)) continue;
    const status = await readFile(`/proc/${pid}/status`, "latin1").catch(() => "");
    if (/^NSpid:.*\t1$/m.test(status)) return Number(pid);
  }
  return expect.unreachable(`no guest of ${id}`);
}
