import { readFileSync } from "node:fs";
import { processesOf } from "./leftovers.ts";

function text(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

/** Pids, as the host sees them, of PID 1 of every living sandbox of the daemon of `dataDir`. */
export function guestPids(dataDir: string): number[] {
  return processesOf(dataDir).filter((pid) => {
    // One number for each namespace that the process is in: the last is its pid in its own.
    const numbers = /^NSpid:\s+(.*)$/m.exec(text(`/proc/${pid}/status`))?.[1]?.split(/\s+/) ?? [];
    return numbers.length > 1 && numbers.at(-1) === "1";
  });
}

/**
 * The pid of PID 1 of sandbox `id`, found by its id in its cgroups.
 *
 * @throws an Error when it does not run
 */
export function guestPidOf(dataDir: string, id: string): number {
  const found = guestPids(dataDir).find((pid) => text(`/proc/${pid}/cgroup`).includes(id));
  if (found === undefined) throw new Error(`no guest of ${id} runs`);
  return found;
}
