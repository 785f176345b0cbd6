/**
 * Brings this tree from a fresh clone to something that runs: Debian packages, npm packages, the
 * native programs, the compiled packages. Each step runs only when its inputs changed.
 */
import { installPackages, missingPackages, planPackages } from "./debian-packages.mjs";
import { runNativeBuild, staleNativeBuilds } from "./native-build.mjs";
import { installNpmPackages, npmStaleness } from "./npm-packages.mjs";
import { typeStaleness, compileTypes } from "./type-build.mjs";
import { withSetupLock } from "./lock.mjs";
import { SetupError } from "./run.mjs";

/** What a set-up can be for: nothing more than running it, the tests, the benchmarks. */
export const PURPOSES = ["tests", "bench"];

/**
 * Sets the tree up. Resolves to the steps that ran, `[{name, durationMs}]`, empty when all was fresh;
 * rejects with a SetupError whose message and `lines` are for people.
 *
 * @param {{purpose?: "tests" | "bench", isBuildOnly?: boolean, report?: (line: string) => void}} options
 */
export async function setUp(options = {}) {
  const { report = () => {}, purpose, isBuildOnly = false } = options;
  if (process.platform !== "linux") {
    throw new SetupError(`Belljar runs on Linux; this is ${process.platform}`);
  }
  const plan = isBuildOnly ? NOTHING_TO_INSTALL : planPackages(wantedPackages(purpose));
  plan.notes.forEach(report);
  const isNpmStale = !isBuildOnly && npmStaleness() !== undefined;
  if (plan.install.length === 0 && !isNpmStale && !isBuildStale()) return [];
  return withSetupLock(report, (lockFd) => runStaleSteps({ purpose, isBuildOnly, report, lockFd }));
}

const NOTHING_TO_INSTALL = { install: [], notes: [] };

function isBuildStale() {
  return staleNativeBuilds().length > 0 || typeStaleness() !== undefined;
}

/** Compilers are asked for only where something is to be compiled. */
function wantedPackages(purpose) {
  const purposes = ["run", ...(purpose === undefined ? [] : [purpose])];
  if (staleNativeBuilds().length > 0) purposes.push("build");
  return missingPackages(purposes);
}

/** Asks again what is stale: another set-up may have done it while this one waited for the lock. */
async function runStaleSteps({ purpose, isBuildOnly, report, lockFd }) {
  const steps = [];
  const step = async (name, reason, work) => {
    if (reason === undefined) return;
    const startedMs = performance.now();
    report(`${name}: ${reason}`);
    await work();
    const durationMs = Math.round(performance.now() - startedMs);
    report(`${name}: done in ${(durationMs / 1000).toFixed(1)} s`);
    steps.push({ name, durationMs });
  };
  if (!isBuildOnly) {
    const { install } = planPackages(wantedPackages(purpose));
    const reason = install.length === 0 ? undefined : `installing ${install.join(", ")}`;
    await step("Debian packages", reason, () => installPackages(install, { report, lockFd }));
    await step("npm packages", npmStaleness(), () => installNpmPackages(lockFd));
  }
  for (const build of staleNativeBuilds()) {
    await step(build.name, "sources changed", () => runNativeBuild(build, lockFd));
  }
  await step("TypeScript", typeStaleness(), () => compileTypes(lockFd));
  return steps;
}
