import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

/** The command as people run it: the shim, which starts the compiled program. */
export const BELLJAR = fileURLToPath(new URL("../../bin/belljar", import.meta.url));

export interface Ran {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** Given to standard input; without it there is none */
  readonly stdin?: string | Uint8Array;
  readonly env?: Record<string, string>;
  readonly cwd?: string;
}

/** Runs `belljar` to its end. */
export function runBelljar(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { BELLJAR_URL: _, BELLJAR_TOKEN: __, BELLJAR_DATA_DIR: ___, ...inherited } = process.env;
  const child = spawn(BELLJAR, [...args], {
    env: { ...inherited, ...options.env },
    cwd: options.cwd,
    stdio: [options.stdin === undefined ? "ignore" : "pipe", "pipe", "pipe"],
  });
  const texts = { stdout: "", stderr: "" };
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    texts.stdout += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    texts.stderr += text;
  });
  child.stdin?.on("error", () => undefined);
  child.stdin?.end(options.stdin);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (exitCode) => resolve({ exitCode, ...texts }));
  });
}
