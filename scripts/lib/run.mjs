/** Runs one program at a time for the scripts, with its output's tail kept for the error message. */
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { ROOT } from "./paths.mjs";

const TAIL_BYTES_MAX = 256 * 1024;
const TAIL_LINES_MAX = 40;

/** A step of a script that failed in a way its user can act on: shown without a stack. */
export class SetupError extends Error {
  constructor(message, lines = []) {
    super(message);
    this.name = "SetupError";
    this.lines = lines;
  }
}

const running = new Set();

/** Ends what the scripts started; each program leads a process group of its own. */
export function endRunning(signal = "SIGTERM") {
  for (const child of running) {
    try {
      process.kill(-child.pid, signal);
    } catch {
      child.kill(signal); // The group is gone already; the child itself may not be.
    }
  }
}

/** On Ctrl-C or TERM: ends the programs, then this process with the status a shell expects. */
export function endOnSignals(cleanUp = () => {}) {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.once(signal, () => {
      endRunning(signal);
      cleanUp();
      process.exit(128 + constants.signals[signal]);
    });
  }
}

/**
 * Runs a program to its end, without stdin. Resolves to `{code, output}` whatever its status;
 * `inherit` lets it write to this process's own stdout and stderr instead. `lockFd` is handed down, so
 * that the lock outlives a killed script for as long as the program it left behind runs.
 */
export function run(command, args, options = {}) {
  const { cwd = ROOT, env = {}, inherit = false, lockFd } = options;
  const output = inherit ? "inherit" : "pipe";
  const stdio = ["ignore", output, output, ...(lockFd === undefined ? [] : [lockFd])];
  return new Promise((settle, refuse) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio,
      detached: true,
    });
    running.add(child);
    const chunks = [];
    const keep = (chunk) => {
      chunks.push(chunk);
      while (chunks.length > 1 && byteCount(chunks) > TAIL_BYTES_MAX) chunks.shift();
    };
    child.stdout?.on("data", keep);
    child.stderr?.on("data", keep);
    child.once("error", (error) => {
      running.delete(child);
      refuse(error);
    });
    child.once("close", (code, signal) => {
      running.delete(child);
      const text = Buffer.concat(chunks).toString("utf8");
      settle({ code: code ?? 128 + constants.signals[signal], output: text });
    });
  });
}

function byteCount(chunks) {
  return chunks.reduce((sum, chunk) => sum + chunk.length, 0);
}

/** As `run`, but a status other than 0 is a SetupError that carries the end of the output. */
export async function mustRun(what, [command, ...args], options = {}) {
  const { code, output } = await run(command, args, options).catch((error) => {
    throw new SetupError(`${what} could not start: ${error.message}`);
  });
  if (code !== 0) throw new SetupError(`${what} failed with status ${code}`, tailOf(output));
  return output;
}

/** The last lines of a program's output. */
export function tailOf(output, countMax = TAIL_LINES_MAX) {
  return output.trimEnd().split("\n").slice(-countMax);
}
