import { existsSync } from "node:fs";
import type { DaemonProcess } from "../tests/e2e/support/daemon-process.ts";
import { findProgram } from "../tests/e2e/support/machine.ts";
import { type Docker, dockerMissing, startDocker } from "./peers/docker.ts";
import type { Row } from "./rows.ts";

/** What every group of rows is given. */
export interface Bench {
  readonly daemon: DaemonProcess;
  /** Fewer samples, for a look that takes a minute */
  readonly quick: boolean;
  /** Node as the peers run it: the file that `node` is in a sandbox, where the host has it too */
  readonly hostNode: string;
  /** Docker of our own, started at the first call; undefined where it cannot be had */
  docker(): Promise<Docker | undefined>;
  /** Something on the way that a reader should know */
  say(line: string): void;
}

/** Rows that are measured together because they share what they set up. */
export interface Group {
  readonly rows: readonly string[];
  run(bench: Bench): Promise<Row[]>;
}

/** Builds the context; what it starts goes onto `stack`. */
export function makeBench(
  daemon: DaemonProcess,
  stack: AsyncDisposableStack,
  options: { quick: boolean; say(line: string): void },
): Bench {
  const hostNode = existsSync("/usr/bin/node") ? "/usr/bin/node" : process.execPath;
  const once: { docker?: Promise<Docker | undefined> } = {};
  const start = async (): Promise<Docker | undefined> => {
    const missing = dockerMissing();
    if (missing !== undefined) {
      options.say(`no docker peer: ${missing}`);
      return undefined;
    }
    const shell = ["/bin/true", "/bin/sleep"].map(
      (program) => findProgram(program.slice(5)) ?? program,
    );
    return stack.use(await startDocker([hostNode, ...shell, "/bin/true", "/bin/sleep"]));
  };
  return {
    daemon,
    hostNode,
    ...options,
    docker() {
      once.docker ??= start().catch((error: unknown) => {
        options.say(`no docker peer: ${error instanceof Error ? error.message : String(error)}`);
        return undefined;
      });
      return once.docker;
    },
  };
}
