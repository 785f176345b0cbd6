import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import { UsageError } from "../failure.ts";
import type { Input } from "../input.ts";
import { runInTerminal, terminalEnvironment, terminalSize } from "../terminal.ts";
import { endOf, spawnOptionsOf } from "./sandbox-exec.ts";

/** The template's best shell, as a login shell. */
const SHELL = ["/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash -l; exec sh -l"];

/** `belljar sandbox shell` */
export async function sandboxShell(context: Context, input: Input): Promise<number> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    throw new UsageError(
      "a shell needs a terminal",
      "For scripts use `belljar sandbox exec`, with --tty where a program asks for a terminal.",
    );
  }
  const client = await openClient(context);
  const sandbox = await client.sandbox(input.required("sandbox"), context.signal);
  const streamed = await client.spawn(sandbox, SHELL, {
    ...spawnOptionsOf(input),
    stdin: true,
    terminal: terminalSize(),
    env: { ...terminalEnvironment(), ...input.pairs("env") },
  });
  return endOf(await runInTerminal(streamed, context.output, context.signal));
}
