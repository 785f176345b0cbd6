import type { Stats } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { BelljarError } from "@belljar/protocol";

const ENTRY_COUNT_MAX = 2_000_000;

/** One entry of a directory tree on this machine. */
export interface LocalEntry {
  /** Relative to the tree's root, with slashes, never starting with one */
  readonly name: string;
  readonly path: string;
  readonly facts: Stats;
  /** Where a symbolic link points */
  readonly target: string | undefined;
}

/** Everything below `root`, parents before children, in the order of their names; links are not followed. */
export async function* walkTree(root: string): AsyncGenerator<LocalEntry> {
  const waiting = [""];
  let count = 0;
  for (let directory = waiting.pop(); directory !== undefined; directory = waiting.pop()) {
    const names = (await readdir(join(root, directory))).toSorted();
    for (const base of names) {
      count += 1;
      if (count > ENTRY_COUNT_MAX)
        throw new BelljarError(
          "BODY_TOO_LARGE",
          `${root} holds more than ${ENTRY_COUNT_MAX} entries`,
        );
      const name = directory === "" ? base : `${directory}/${base}`;
      const path = join(root, name);
      const facts = await lstat(path);
      if (facts.isDirectory()) waiting.push(name);
      yield {
        name,
        path,
        facts,
        target: facts.isSymbolicLink() ? await readlink(path) : undefined,
      };
    }
  }
}
