import type { ExecResult, execRequestSchema } from "@belljar/protocol";
import { BelljarError } from "@belljar/protocol";
import type { z } from "zod";
import type { ExecSession } from "../guest/index.ts";
import type { Clock } from "../kernel/index.ts";
import type { CommandDefaults, SandboxGuest } from "../sandbox/index.ts";
import { toExecRequest } from "./command.ts";

/** Keeps the first bytes of a stream and counts the rest away. */
class Kept {
  readonly #chunks: Uint8Array[] = [];
  #roomBytes: number;
  isTruncated = false;

  constructor(bytesMax: number) {
    this.#roomBytes = bytesMax;
  }

  add(data: Uint8Array): void {
    if (data.length > this.#roomBytes) this.isTruncated = true;
    if (this.#roomBytes === 0) return;
    const taken = data.length > this.#roomBytes ? data.subarray(0, this.#roomBytes) : data;
    this.#roomBytes -= taken.length;
    this.#chunks.push(taken);
  }

  text(encoding: "utf8" | "base64"): string {
    if (this.#chunks.length === 0) return "";
    return Buffer.concat(this.#chunks).toString(encoding);
  }
}

/** Runs a command to its end. When `signal` fires the session is closed, and the guest ends the command. */
export async function runBuffered(
  guest: SandboxGuest,
  options: {
    body: z.output<typeof execRequestSchema>;
    defaults: CommandDefaults;
    clock: Clock;
    signal: AbortSignal;
  },
): Promise<ExecResult> {
  const { body, clock, signal } = options;
  const startedMs = clock.monotonic();
  const request = { ...toExecRequest(body, options.defaults), stdin: body.stdin !== undefined };
  const input = body.stdin === undefined ? undefined : decodeInput(body.stdin, body.encoding);
  const session = await guest.exec(request, signal);
  const close = () => session.close();
  signal.addEventListener("abort", close, { once: true });
  try {
    if (signal.aborted) throw new BelljarError("CANCELLED", "the client went away");
    if (input !== undefined) void feed(session, input);
    const stdout = new Kept(body.outputBytesMax);
    const stderr = new Kept(body.outputBytesMax);
    for await (const { stream, data } of session.output)
      (stream === "stdout" ? stdout : stderr).add(data);
    const { exitCode, signal: endedBy, reason, maxRssBytes, cpuTimeMs } = await session.exited;
    return {
      exitCode,
      signal: endedBy,
      reason,
      maxRssBytes,
      cpuTimeMs,
      stdout: stdout.text(body.encoding),
      stderr: stderr.text(body.encoding),
      stdoutTruncated: stdout.isTruncated,
      stderrTruncated: stderr.isTruncated,
      durationMs: Math.round((clock.monotonic() - startedMs) * 100) / 100,
    };
  } finally {
    signal.removeEventListener("abort", close);
    session.close();
  }
}

function decodeInput(text: string, encoding: "utf8" | "base64"): Buffer {
  const bytes = Buffer.from(text, encoding);
  const isSame =
    encoding === "utf8" || bytes.toString("base64").replace(/=+$/, "") === text.replace(/=+$/, "");
  if (!isSame) throw new BelljarError("BAD_REQUEST", "body.stdin: is not base64");
  return bytes;
}

async function feed(session: ExecSession, input: Uint8Array): Promise<void> {
  try {
    await session.writeStdin(input);
    session.endStdin();
  } catch {
    // A command may end without reading its input; how it ended is in its exit.
  }
}
