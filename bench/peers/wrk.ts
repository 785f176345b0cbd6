import { run } from "../../tests/e2e/support/child.ts";
import { findProgram } from "../../tests/e2e/support/machine.ts";

/** What one wrk run saw. */
export interface Load {
  readonly requestsPerSecond: number;
  readonly errors: string;
}

/** Loads `url` with 64 keep-alive connections from one thread for `seconds`. */
export async function load(url: string, host: string, seconds: number): Promise<Load> {
  const program = findProgram("wrk") ?? "wrk";
  const argv = [program, "-t1", "-c64", `-d${seconds}s`, "-H", `Host: ${host}`, url];
  const { code, stdout, stderr } = await run(argv, { timeoutMs: (seconds + 15) * 1000 });
  const rate = /Requests\/sec:\s+([0-9.]+)/.exec(stdout)?.[1];
  if (code !== 0 || rate === undefined)
    throw new Error(`wrk ended with ${code}: ${stderr}${stdout}`);
  const errors = [/Socket errors:.*/.exec(stdout)?.[0], /Non-2xx.*/.exec(stdout)?.[0]];
  return { requestsPerSecond: Number(rate), errors: errors.filter(Boolean).join("; ") };
}
