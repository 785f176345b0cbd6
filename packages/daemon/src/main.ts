/** belljard: argv and signals. Everything is built in `compose.ts`. */
import { BelljarError } from "@belljar/protocol";
import { compose } from "./compose.ts";
import { loadConfig, parseArgv, processEnvironment, showConfig, USAGE } from "./config/index.ts";
import type { DaemonArguments, LoadedConfig } from "./config/index.ts";
import { createLogger } from "./log/index.ts";
import { packageVersion } from "./version.ts";

/** Beyond the drain time, for what a drain waits for: sockets, the store, the warden */
const EXIT_MARGIN_MS = 5000;

async function main(argv: readonly string[]): Promise<void> {
  const given = parseArgv(argv);
  if (given.action === "help") return say(USAGE);
  if (given.action === "version") return say(`${packageVersion()}\n`);
  const isRoot = process.geteuid?.() === 0;
  const sources = {
    flags: given.flags,
    env: processEnvironment(),
    cwd: process.cwd(),
    isRoot,
    file: given.configFile,
  };
  const loaded = loadConfig(sources);
  if (given.action === "show-config") return say(`${JSON.stringify(showConfig(loaded))}\n`);
  return serve(given, loaded);
}

async function serve(given: DaemonArguments, loaded: LoadedConfig): Promise<void> {
  const logger = createLogger({
    level: loaded.config.log.level,
    destination: given.isReadyJson ? 2 : 1,
  });
  const stopped = Promise.withResolvers<NodeJS.Signals>();
  const forcedExitMs = loaded.config.server.drainMs + EXIT_MARGIN_MS;
  let isStopping = false;
  const stop = (signal: NodeJS.Signals) => {
    // A second signal is from someone who does not want to wait.
    if (isStopping) process.exit(1);
    isStopping = true;
    stopped.resolve(signal);
    setTimeout(() => process.exit(1), forcedExitMs).unref();
  };
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, stop);
  await using app = await compose(loaded, logger);
  if (given.isReadyJson) {
    const token = app.firstToken === undefined ? {} : { token: app.firstToken };
    say(`${JSON.stringify({ event: "ready", url: app.url, pid: process.pid, ...token })}\n`);
  } else if (app.firstToken !== undefined) {
    process.stderr.write(
      `Belljar answers at ${app.url}\nYour token, shown this once: ${app.firstToken}\n`,
    );
  }
  logger.info("daemon.stop", { signal: await stopped.promise });
}

function say(text: string): void {
  process.stdout.write(text);
}

try {
  await main(process.argv.slice(2));
  // A handle that something forgot must not keep a stopped daemon alive; the log is flushed at exit.
  process.exit(0);
} catch (error) {
  const isOurs = BelljarError.is(error);
  process.stderr.write(
    isOurs ? `belljard: ${error.code}: ${error.message}\n${error.hint}\n` : `${String(error)}\n`,
  );
  if (!isOurs && error instanceof Error) process.stderr.write(`${error.stack ?? ""}\n`);
  process.exit(1);
}
