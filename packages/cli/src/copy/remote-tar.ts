import { BelljarError } from "@belljar/protocol";
import type { Sandbox } from "@belljar/sdk";
import type { Client } from "../client.ts";
import { feedStdin } from "../run-command.ts";

const STDERR_CHARS_MAX = 2000;

interface TarPlace {
  readonly client: Client;
  readonly sandbox: Sandbox;
  readonly user: string | undefined;
  readonly signal: AbortSignal;
}

interface TarRun {
  readonly argv: string[];
  /** What tar unpacks */
  readonly input?: AsyncIterable<Uint8Array>;
  /** Takes what tar packs */
  readonly take?: (archive: AsyncIterable<Uint8Array>) => Promise<void>;
}

/** Runs tar inside. @throws EXEC_NOT_FOUND where there is none, before anything is read or written. */
export async function runTar(place: TarPlace, run: TarRun): Promise<void> {
  const { client, sandbox, user, signal } = place;
  const { command, output } = await client.spawn(sandbox, run.argv, {
    stdin: run.input !== undefined,
    signal,
    ...(user === undefined ? {} : { user }),
  });
  const stderr = { text: "" };
  try {
    const feeding = run.input === undefined ? Promise.resolve() : feedStdin(command, run.input);
    const reading =
      run.take === undefined
        ? discard(archiveIn(output, stderr))
        : run.take(archiveIn(output, stderr));
    await Promise.all([feeding, reading]);
    const { exitCode } = await command.exited;
    if (exitCode !== 0)
      throw new BelljarError("FILE_FAILED", describe(exitCode, stderr.text), { exitCode });
  } finally {
    command.close();
  }
}

async function* archiveIn(
  output: Awaited<ReturnType<Client["spawn"]>>["output"],
  stderr: { text: string },
): AsyncGenerator<Uint8Array> {
  const decoder = new TextDecoder();
  for await (const { stream, data } of output) {
    if (stream === "stdout") yield data;
    else if (stderr.text.length < STDERR_CHARS_MAX)
      stderr.text += decoder.decode(data, { stream: true });
  }
}

async function discard(archive: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of archive) continue;
}

function describe(exitCode: number | null, stderr: string): string {
  const said = stderr.trim().slice(0, STDERR_CHARS_MAX);
  return `tar inside the sandbox ended with ${exitCode ?? "a signal"}${said === "" ? "" : `: ${said}`}`;
}
