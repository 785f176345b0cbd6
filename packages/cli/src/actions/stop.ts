import { BelljarError } from "@belljar/protocol";
import type { Sandbox } from "@belljar/sdk";
import type { Context } from "../command.ts";
import { dataDirOf, readRunningDaemon } from "../data-dir.ts";
import type { Input } from "../input.ts";
import { poll } from "../poll.ts";
import { isDaemon } from "../process-table.ts";
import { formatDuration } from "../values/duration.ts";

const STOP_WAIT_MS = 30_000;
const KILL_WAIT_MS = 5000;
const PARALLEL_STOPS = 8;

/** `belljar stop` */
export async function stop(context: Context, input: Input): Promise<void> {
  const dataDir = dataDirOf(context.globals.dataDir);
  const running = await readRunningDaemon(dataDir);
  if (running === undefined || !isDaemon(running.pid)) {
    context.output.say(`no daemon runs on ${dataDir}`);
    if (context.output.json) context.output.data({ stopped: false, pid: null });
    return;
  }
  if (input.flag("sandboxes"))
    await context.output.progress("stopping the sandboxes", () => stopSandboxes(context));
  const waitMs = input.number("wait") ?? STOP_WAIT_MS;
  await context.output.progress("stopping the daemon", () =>
    end(running.pid, waitMs, input.flag("force")),
  );
  if (context.output.json) context.output.data({ stopped: true, pid: running.pid });
  else context.output.say(`stopped (pid ${running.pid})`);
}

/** Several at a time: each may take the whole of its grace. */
async function stopSandboxes(context: Context): Promise<void> {
  // Loaded here alone: a plain stop needs no client.
  const { openClient } = await import("../client.ts");
  const { belljar } = await openClient(context);
  const waiting: Sandbox[] = [];
  for (const state of ["running", "frozen"] as const) {
    for await (const sandbox of belljar.sandboxes.list({ state, signal: context.signal }))
      waiting.push(sandbox);
  }
  const worker = async () => {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop())
      await next.stop({ signal: context.signal });
  };
  await Promise.all(Array.from({ length: PARALLEL_STOPS }, worker));
}

async function end(pid: number, waitMs: number, force: boolean): Promise<void> {
  process.kill(pid, "SIGTERM");
  if (await isGone(pid, waitMs)) return;
  if (!force) {
    const message = `pid ${pid} is still there after ${formatDuration(waitMs)}; --force kills it, sandboxes are taken over by the next start`;
    throw new BelljarError("TIMED_OUT", message, { pid, waitMs });
  }
  process.kill(pid, "SIGKILL");
  if (!(await isGone(pid, KILL_WAIT_MS)))
    throw new BelljarError("TIMED_OUT", `pid ${pid} cannot be killed`, { pid });
}

async function isGone(pid: number, timeoutMs: number): Promise<boolean> {
  return (await poll(() => (isDaemon(pid) ? undefined : true), { timeoutMs })) === true;
}
