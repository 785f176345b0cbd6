import { readFileSync } from "node:fs";

/**
 * Whether `pid` is a daemon of ours. A pid in a file may have been taken over by another program
 * since, and a signal must not reach that one.
 */
export function isDaemon(pid: number): boolean {
  try {
    const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return argv.some((argument) => argument.endsWith("daemon/dist/main.js")) && !isZombie(pid);
  } catch {
    // No such process, or one whose facts are hidden from us: not one that we may signal.
    return false;
  }
}

function isZombie(pid: number): boolean {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
}
