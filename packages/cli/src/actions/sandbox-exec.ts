import type { ExecResult } from "@belljar/protocol";
import type { CommandExit, OutputChunk, SpawnOptions } from "@belljar/sdk";
import { openClient, type StreamedCommand } from "../client.ts";
import type { Context } from "../command.ts";
import type { Input } from "../input.ts";
import { assertKnownEnd, drainOutput, exitCodeOf, feedStdin, passSignals } from "../run-command.ts";
import { runInTerminal, terminalEnvironment, terminalSize } from "../terminal.ts";

const COLLECTED_BYTES_MAX = 1024 * 1024;

/** `belljar sandbox exec` */
export async function sandboxExec(context: Context, input: Input): Promise<number> {
  const client = await openClient(context);
  const sandbox = await client.sandbox(input.required("sandbox"), context.signal);
  const useTerminal = input.flag("tty");
  const useStdin = useTerminal || (!process.stdin.isTTY && input.flag("stdin"));
  const streamed = await client.spawn(sandbox, input.texts("command"), {
    ...spawnOptionsOf(input),
    stdin: useStdin,
    ...(useTerminal ? { terminal: terminalSize() } : {}),
    env: { ...(useTerminal ? terminalEnvironment() : {}), ...input.pairs("env") },
  });
  if (useTerminal) return endOf(await runInTerminal(streamed, context.output, context.signal));
  if (useStdin)
    void feedStdin(streamed.command, process.stdin).catch((error: Error) =>
      context.output.warn(`standard input: ${error.message}`),
    );
  const letGo = passSignals(context, streamed.command);
  try {
    return context.output.json ? await collect(context, streamed) : await pass(context, streamed);
  } finally {
    letGo();
  }
}

/** Options that `exec` and `shell` share. */
export function spawnOptionsOf(input: Input): Pick<SpawnOptions, "user" | "cwd" | "timeoutMs"> {
  const user = input.text("user");
  const cwd = input.text("cwd");
  const timeoutMs = input.number("timeout");
  return {
    ...(user === undefined ? {} : { user }),
    ...(cwd === undefined ? {} : { cwd }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  };
}

/** The exit code of a command whose end is known. */
export function endOf(exit: CommandExit): number {
  assertKnownEnd(exit);
  return exitCodeOf(exit);
}

async function pass(context: Context, { command, output }: StreamedCommand): Promise<number> {
  await drainOutput(output, (chunk) => context.output.bytes(chunk.stream, chunk.data));
  return endOf(await command.exited);
}

async function collect(context: Context, { command, output }: StreamedCommand): Promise<number> {
  const startMs = performance.now();
  const stdout = new Collected();
  const stderr = new Collected();
  await drainOutput(output, (chunk: OutputChunk) =>
    (chunk.stream === "stdout" ? stdout : stderr).add(chunk.data),
  );
  const exit = await command.exited;
  const result: ExecResult = {
    ...exit,
    stdout: stdout.text(),
    stderr: stderr.text(),
    stdoutTruncated: stdout.truncated,
    stderrTruncated: stderr.truncated,
    durationMs: performance.now() - startMs,
  };
  context.output.data(result);
  return exitCodeOf(exit);
}

class Collected {
  truncated = false;
  readonly #chunks: Uint8Array[] = [];
  #byteCount = 0;

  add(data: Uint8Array): void {
    const room = COLLECTED_BYTES_MAX - this.#byteCount;
    if (data.byteLength > room) this.truncated = true;
    this.#chunks.push(data.subarray(0, room));
    this.#byteCount += Math.min(room, data.byteLength);
  }

  text(): string {
    return Buffer.concat(this.#chunks).toString("utf8");
  }
}
