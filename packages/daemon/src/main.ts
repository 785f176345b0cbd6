/** belljard: what the command line asks for. Everything is built in `compose.ts`. */
import { BelljarError } from "@belljar/protocol";
import { compose } from "./compose.ts";
import { loadConfig, parseArgv, processEnvironment, showConfig, USAGE } from "./config/index.ts";
import type { DaemonArguments, LoadedConfig } from "./config/index.ts";
import { createLogger } from "./log/index.ts";
import { stopSignal } from "./signals.ts";
import { packageVersion } from "./version.ts";

/** Beyond the drain time, for what follows a drain: the store, the warden */
const EXIT_MARGIN_MS = 5000;

async function main(argv: readonly string[]): Promise<void> {
  const given = parseArgv(argv);
  if (given.action === "help") return say(USAGE);
  if (given.action === "version") return say(`${packageVersion()}\n`);
  const isRoot = process.geteuid?.() === 0;
  const { flags, configFile: file } = given;
  const loaded = loadConfig({ flags, file, env: processEnvironment(), cwd: process.cwd(), isRoot });
  if (given.action === "show-config") return say(`${JSON.stringify(showConfig(loaded))}\n`);
  return serve(given, loaded);
}

async function serve(given: DaemonArguments, loaded: LoadedConfig): Promise<void> {
  const { log, server } = loaded.config;
  const logger = createLogger({ level: log.level, destination: given.isReadyJson ? 2 : 1 });
  const stopped = stopSignal(server.drainMs + EXIT_MARGIN_MS);
  await using app = await compose(loaded, logger);
  const { url, firstToken: token } = app;
  if (given.isReadyJson)
    say(`${JSON.stringify({ event: "ready", url, pid: process.pid, token })}\n`);
  else if (token !== undefined)
    complain(`Belljar answers at ${url}\nYour token, shown this once: ${token}\n`);
  logger.info("daemon.stop", { signal: await stopped });
}

function say(text: string): void {
  process.stdout.write(text);
}

function complain(text: string): void {
  process.stderr.write(text);
}

try {
  await main(process.argv.slice(2));
  // A handle that something forgot must not keep a stopped daemon alive; the log is flushed at exit.
  process.exit(0);
} catch (error) {
  if (BelljarError.is(error))
    complain(`belljard: ${error.code}: ${error.message}\n${error.hint}\n`);
  else complain(`${error instanceof Error ? error.stack : String(error)}\n`);
  process.exit(1);
}
