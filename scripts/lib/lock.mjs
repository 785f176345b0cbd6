/** One set-up at a time in one tree: a flock(2) that the kernel gives back however the holder ends. */
import { closeSync, mkdirSync, openSync } from "node:fs";
import { dirname, join } from "node:path";
import { ROOT, findProgram } from "./paths.mjs";
import { run, SetupError } from "./run.mjs";

const LOCK_PATH = join(ROOT, "build/setup/lock");
const LOCK_WAIT_S_MAX = 1800;

/**
 * Runs `work(lockFd)` while no other set-up of this tree runs. flock(1) locks the open file that it
 * inherits, which is this process's own, and programs that get the descriptor too keep it locked.
 */
export async function withSetupLock(report, work) {
  const flock = findProgram("flock");
  if (flock === undefined) return work(undefined);
  const lockFd = openLock();
  try {
    const first = await run(flock, ["-n", "3"], { lockFd });
    if (first.code !== 0) {
      report("another set-up of this tree is running; waiting for it");
      const second = await run(flock, ["-w", String(LOCK_WAIT_S_MAX), "3"], { lockFd });
      if (second.code !== 0)
        throw new SetupError(`${LOCK_PATH} stayed locked for ${LOCK_WAIT_S_MAX} s`);
    }
    return await work(lockFd);
  } finally {
    closeSync(lockFd);
  }
}

function openLock() {
  try {
    mkdirSync(dirname(LOCK_PATH), { recursive: true });
    return openSync(LOCK_PATH, "a", 0o644);
  } catch (error) {
    throw new SetupError(
      `this tree needs a set-up, and only its owner can write it: ${error.message}`,
    );
  }
}
