import { readFileSync } from "node:fs";
import { EXIT, EXIT_SIGNAL_BASE, reportFailure } from "./failure.ts";
import { Output } from "./output.ts";
import { type Answered, type Invocation, parseCommandLine } from "./program.ts";

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

/** Runs one command line and returns its exit code. */
async function run(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const colours = env["NO_COLOR"] === undefined || env["NO_COLOR"] === "";
  const parsed = parse(argv, env, colours);
  if ("exitCode" in parsed) return parsed.exitCode;
  const output = new Output({ json: parsed.globals.json, colours });
  const interruption = listenForSignals();
  try {
    const action = await parsed.spec.load();
    const exitCode = await action(
      { output, globals: parsed.globals, signal: interruption.signal },
      parsed.input,
    );
    return exitCode ?? EXIT.ok;
  } catch (error) {
    if (interruption.exitCode !== undefined) return interruption.exitCode;
    if (env["BELLJAR_DEBUG_STACK"] === "1")
      process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    return reportFailure(output, error);
  }
}

function parse(
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  colours: boolean,
): Invocation | Answered {
  try {
    return parseCommandLine(argv, env, readVersion());
  } catch (error) {
    return { exitCode: reportFailure(new Output({ json: asksForJson(argv), colours }), error) };
  }
}

/** Where the line cannot be parsed, whether it asked for JSON is read off its words. */
function asksForJson(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return (end < 0 ? argv : argv.slice(0, end)).includes("--json");
}

/** The first signal aborts what runs, so that it can clean up; the second ends the process at once. */
function listenForSignals(): {
  readonly signal: AbortSignal;
  readonly exitCode: number | undefined;
} {
  const controller = new AbortController();
  const state: { exitCode?: number } = {};
  for (const [name, number] of Object.entries(SIGNALS)) {
    process.on(name, () => {
      if (state.exitCode !== undefined) process.exit(state.exitCode);
      state.exitCode = EXIT_SIGNAL_BASE + number;
      controller.abort(name);
    });
  }
  return {
    signal: controller.signal,
    get exitCode() {
      return state.exitCode;
    },
  };
}

function readVersion(): string {
  const manifest: unknown = JSON.parse(
    readFileSync(new URL("../package.json", import.meta.url), "utf8"),
  );
  return typeof manifest === "object" && manifest !== null && "version" in manifest
    ? String(manifest.version)
    : "unknown";
}

/** A reader that has seen enough (`belljar events | head`) is no failure. */
function endQuietlyOnClosedPipe(error: NodeJS.ErrnoException): void {
  if (error.code === "EPIPE") process.exit(EXIT.ok);
}

process.stdout.on("error", endQuietlyOnClosedPipe);
// Nobody is left to be told, but what was begun must still be ended: a terminal that closes sends SIGHUP as well.
process.stderr.on("error", () => undefined);
const exitCode = await run(process.argv.slice(2), process.env);
// Sockets that the client keeps alive must not hold the process; both streams are flushed first.
process.stdout.write("", () => process.stderr.write("", () => process.exit(exitCode)));
