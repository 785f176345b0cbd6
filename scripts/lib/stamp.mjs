/** Knows whether a step's inputs changed, by content: a checkout or a copy that only moves times builds nothing. */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const SKIPPED_DIRECTORIES = new Set(["build", "dist", "node_modules", "coverage", ".git"]);

/** Files below `directory`, sorted, without what builds leave there. */
export function filesBelow(directory, accept = () => true) {
  const found = [];
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) {
      if (!SKIPPED_DIRECTORIES.has(entry.name)) found.push(...filesBelow(path, accept));
    } else if (entry.isFile() && accept(path)) {
      found.push(path);
    }
  }
  return found.sort((a, b) => (a < b ? -1 : 1));
}

/** SHA-256 over the named facts and the files' names and contents. */
export function hashInputs(facts, files) {
  const hash = createHash("sha256");
  hash.update(JSON.stringify(facts));
  for (const file of files) hash.update(`\0${file}\0`).update(readFileSync(file));
  return hash.digest("hex");
}

/** The hash that the last finished run of a step left, or undefined. */
export function readStamp(path) {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined; // No stamp: the step never finished.
  }
}

/** Takes the stamp away before a step starts, so that a killed step leaves none. */
export function clearStamp(path) {
  rmSync(path, { force: true });
}

/** Writes the stamp in one step after everything it vouches for is in place. */
export function writeStamp(path, hash) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, `${hash}\n`);
  renameSync(`${path}.new`, path);
}
