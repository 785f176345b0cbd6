/** `tsc -b` of the packages that run, when their sources changed. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { ROOT, projectNode } from "./paths.mjs";
import { mustRun } from "./run.mjs";
import { clearStamp, filesBelow, hashInputs, readStamp, writeStamp } from "./stamp.mjs";

const STAMP = join(ROOT, "build/setup/types");
const PROJECTS = ["packages/cli", "packages/daemon"];

/** Why the packages must be compiled, or undefined. */
export function typeStaleness() {
  if (missingOutput()) return "dist is missing";
  return readStamp(STAMP) === inputHash() ? undefined : "sources changed";
}

function packageDirectories() {
  return readdirSync(join(ROOT, "packages")).map((name) => join(ROOT, "packages", name));
}

function missingOutput() {
  return packageDirectories().some((directory) => {
    return existsSync(join(directory, "tsconfig.json")) && !existsSync(join(directory, "dist"));
  });
}

function inputHash() {
  const sources = packageDirectories().flatMap((directory) => {
    return filesBelow(directory, (path) => {
      return /\.(?:ts|tsx|json)$/u.test(path) && !/\.test\.tsx?$/u.test(path);
    });
  });
  return hashInputs(PROJECTS, [
    join(ROOT, "tsconfig.base.json"),
    join(ROOT, "package-lock.json"),
    ...sources,
  ]);
}

/** Compiles; `--force` where an output is gone, since tsc looks at its build record alone. */
export async function compileTypes(lockFd) {
  const hash = inputHash();
  const force = missingOutput() ? ["--force"] : [];
  clearStamp(STAMP);
  const tsc = join(ROOT, "node_modules/typescript/bin/tsc");
  await mustRun("`tsc -b`", [projectNode(), tsc, "-b", ...force, ...PROJECTS], { lockFd });
  writeStamp(STAMP, hash);
}
