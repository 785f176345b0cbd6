import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { BelljarError } from "@belljar/protocol";
import type { Context } from "../command.ts";
import { errorSaidIn } from "../daemon-error.ts";
import { daemonCommand, daemonEnvironment } from "../daemon-program.ts";
import type { Input } from "../input.ts";

const OUTPUT_CHARS_MAX = 1024 * 1024;

interface Setting {
  readonly key: string;
  readonly value: unknown;
  readonly origin: string;
}

/** `belljar config show`: the daemon's own program reads its settings, so that there is one reader. */
export async function configShow(context: Context, input: Input): Promise<void> {
  const flags = ["--show-config"];
  if (context.globals.dataDir !== undefined)
    flags.push("--data-dir", resolve(context.globals.dataDir));
  const config = input.text("config");
  if (config !== undefined) flags.push("--config", resolve(config));
  const settings = parseSettings(await runDaemonProgram(flags, context.signal));
  if (context.output.json) {
    context.output.data(settings);
    return;
  }
  const columns = [{ title: "KEY" }, { title: "VALUE", shrink: true }, { title: "FROM" }];
  const rows = settings.map(({ key, value, origin }) => [
    key,
    typeof value === "string" ? value : JSON.stringify(value),
    origin,
  ]);
  context.output.table(columns, rows);
}

function parseSettings(text: string): Setting[] {
  const value: unknown = JSON.parse(text);
  if (!Array.isArray(value))
    throw new BelljarError("INTERNAL", "the daemon's program did not print a list of settings");
  return value.map((each: Setting) => ({
    key: each.key,
    value: each.value ?? null,
    origin: each.origin,
  }));
}

async function runDaemonProgram(flags: readonly string[], signal: AbortSignal): Promise<string> {
  const { program, entry } = await daemonCommand();
  const child = spawn(program, [entry, ...flags], {
    env: daemonEnvironment(),
    stdio: ["ignore", "pipe", "pipe"],
    signal,
  });
  const texts = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      if (texts[name].length < OUTPUT_CHARS_MAX) texts[name] += text;
    });
  }
  const exitCode = await new Promise<number | null>((resolveExit, reject) => {
    child.once("error", reject);
    child.once("close", resolveExit);
  });
  if (exitCode !== 0)
    throw (
      errorSaidIn(texts.stderr) ??
      new BelljarError(
        "INTERNAL",
        `the daemon's program ended with ${exitCode}: ${texts.stderr.trim()}`,
      )
    );
  return texts.stdout;
}
