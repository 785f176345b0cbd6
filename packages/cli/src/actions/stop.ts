import { BelljarError } from "@belljar/protocol";
import type { Context } from "../command.ts";
import { dataDirOf, readRunningDaemon } from "../data-dir.ts";
import type { Input } from "../input.ts";
import { poll } from "../poll.ts";
import { isDaemon } from "../process-table.ts";
import { formatDuration } from "../values/duration.ts";

const STOP_WAIT_MS = 30_000;
const KILL_WAIT_MS = 5000;

/** `belljar stop` */
export async function stop(context: Context, input: Input): Promise<void> {
  const dataDir = dataDirOf(context.globals.dataDir);
  const running = await readRunningDaemon(dataDir);
  if (running === undefined || !isDaemon(running.pid)) {
    context.output.say(`no daemon runs on ${dataDir}`);
    if (context.output.json) context.output.data({ stopped: false, pid: null });
    return;
  }
  const waitMs = input.number("wait") ?? STOP_WAIT_MS;
  await context.output.progress("stopping the daemon", () =>
    end(running.pid, waitMs, input.flag("force")),
  );
  if (context.output.json) context.output.data({ stopped: true, pid: running.pid });
  else context.output.say(`stopped (pid ${running.pid})`);
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
