/** The C programs and the Node addon: what is stale, and `make` for it. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { NODE_PACKAGE, ROOT, findProgram } from "./paths.mjs";
import { mustRun } from "./run.mjs";
import { clearStamp, filesBelow, hashInputs, readStamp, writeStamp } from "./stamp.mjs";

const DIRECTORIES = ["guest", "warden"];

/** The native builds whose sources changed since they were last finished. */
export function staleNativeBuilds() {
  return DIRECTORIES.flatMap((name) => buildsOf(name)).filter((build) => {
    return readStamp(build.stamp) !== build.hash();
  });
}

function buildsOf(name) {
  const directory = join(ROOT, "native", name);
  const makefile = join(directory, "Makefile");
  if (!existsSync(makefile)) return [];
  const targets = [{ name: `native/${name}`, args: [] }];
  const include = join(ROOT, "node_modules", NODE_PACKAGE, "include/node");
  const hasAddon = /^addon\s*:/mu.test(readFileSync(makefile, "utf8"));
  if (hasAddon)
    targets.push({ name: `native/${name} addon`, args: ["addon", `NODE_INCLUDE=${include}`] });
  return targets.map((target) => describeBuild(directory, target));
}

/** The stamp lies in build/, so that `make clean` takes it along. */
function describeBuild(directory, { name, args }) {
  return {
    name,
    directory,
    args,
    stamp: join(directory, "build", `.finished${args.length === 0 ? "" : `-${args[0]}`}`),
    hash: () => hashInputs([process.arch, ...args, nodeVersion()], filesBelow(directory)),
  };
}

function nodeVersion() {
  const manifest = join(ROOT, "node_modules", NODE_PACKAGE, "package.json");
  return existsSync(manifest) ? JSON.parse(readFileSync(manifest, "utf8")).version : "";
}

/** Builds one of `staleNativeBuilds()`, all of it: what a killed compiler left looks fresh to make. */
export async function runNativeBuild(build, lockFd) {
  const hash = build.hash();
  clearStamp(build.stamp);
  const make = findProgram("make") ?? "make";
  await mustRun(
    `make of ${build.name}`,
    [make, "--no-print-directory", "-B", "-C", build.directory, ...build.args],
    {
      lockFd,
    },
  );
  writeStamp(build.stamp, hash);
}
