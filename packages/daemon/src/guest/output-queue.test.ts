import { expect, test } from "vitest";
import { OutputQueue } from "./output-queue.ts";

function queueWithCalls(): { queue: OutputQueue; calls: string[] } {
  const calls: string[] = [];
  const queue = new OutputQueue({
    pause: () => calls.push("pause"),
    resume: () => calls.push("resume"),
  });
  return { queue, calls };
}

test("a command that writes byte by byte, or nothing at all, is left alone after a thousand unread frames", () => {
  for (const size of [0, 1]) {
    const { queue, calls } = queueWithCalls();
    for (let i = 0; i < 1100; i++) queue.push({ stream: "stdout", data: new Uint8Array(size) });
    expect(calls).toEqual(["pause"]);
  }
});

test("few large frames pause it at 256 KiB, and reading them all resumes it", async () => {
  const { queue, calls } = queueWithCalls();
  const data = new Uint8Array(64 * 1024);
  for (let i = 0; i < 3; i++) queue.push({ stream: "stdout", data });
  expect(calls).toEqual([]);
  queue.push({ stream: "stderr", data });
  expect(calls).toEqual(["pause"]);
  for (let i = 0; i < 4; i++) expect((await queue.next()).done).toBe(false);
  expect(calls).toEqual(["pause", "resume"]);
});
