/** The Debian packages that this repository needs: which are missing, and how they get installed. */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT, findProgram } from "./paths.mjs";
import { run, SetupError, tailOf } from "./run.mjs";
import { readStamp, writeStamp } from "./stamp.mjs";

const POLICY_PATH = "/usr/sbin/policy-rc.d";
const POLICY_MARK = "# Made by Belljar's set-up; removed when it ends.";
const FAILED_STAMP = join(ROOT, "build/setup/packages-not-installed");
const APT_OPTIONS = ["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"];

/** Browsers that the end-to-end tests can drive. */
export const BROWSERS = ["chromium", "google-chrome"];

/**
 * Each row: the package, when it is needed, and what shows that it is there, so that a compiler from
 * elsewhere counts too. `isRequired` rows stop the set-up; without the others something is missing
 * later, and it says so.
 */
const PACKAGES = [
  { name: "gcc", purpose: "build", isRequired: true, isThere: () => findProgram("gcc") },
  { name: "make", purpose: "build", isRequired: true, isThere: () => findProgram("make") },
  {
    name: "libc6-dev",
    purpose: "build",
    isRequired: true,
    isThere: () => existsSync("/usr/include/stdio.h"),
  },
  {
    name: "linux-libc-dev",
    purpose: "build",
    isRequired: true,
    isThere: () => existsSync("/usr/include/linux/version.h"),
  },
  {
    name: "musl-tools",
    purpose: "build",
    isRequired: true,
    isThere: () => findProgram("musl-gcc"),
  },
  { name: "btrfs-progs", purpose: "run", isThere: () => findProgram("mkfs.btrfs") },
  {
    name: "chromium",
    purpose: "tests",
    isThere: () => findProgram(...BROWSERS),
  },
  { name: "nginx-light", purpose: "bench", isThere: () => findProgram("nginx") },
  { name: "caddy", purpose: "bench", isThere: () => findProgram("caddy") },
  { name: "docker.io", purpose: "bench", isThere: () => findProgram("dockerd") },
  { name: "runc", purpose: "bench", isThere: () => findProgram("runc") },
  { name: "bubblewrap", purpose: "bench", isThere: () => findProgram("bwrap") },
  { name: "wrk", purpose: "bench", isThere: () => findProgram("wrk") },
];

/** Rows for the given purposes whose program or header is not on this machine. */
export function missingPackages(purposes) {
  return PACKAGES.filter((row) => purposes.includes(row.purpose) && !row.isThere());
}

/**
 * What to do about missing packages: `{install, notes}`, names for apt-get and lines for people. Throws
 * a SetupError with the line to type where something required cannot be installed from here.
 */
export function planPackages(missing) {
  const { wanted, notes } = fitToDistribution(missing);
  if (wanted.length === 0) return { install: [], notes };
  const names = wanted.map((row) => row.name);
  const required = wanted.filter((row) => row.isRequired).map((row) => row.name);
  const isRoot = process.getuid?.() === 0;
  const hasApt = findProgram("apt-get") !== undefined;
  if (isRoot && hasApt) {
    if (required.length > 0 || readStamp(FAILED_STAMP) !== names.join(" "))
      return { install: names, notes };
    const again = `remove ${FAILED_STAMP} to try again`;
    return {
      install: [],
      notes: [...notes, `${names.join(", ")} could not be installed; ${again}`],
    };
  }
  const whatToDo = hasApt
    ? `run: sudo ${installCommand(names)}`
    : `install what provides: ${names.join(", ")}`;
  if (required.length > 0) throw new SetupError(`${required.join(", ")} missing; ${whatToDo}`);
  return { install: [], notes: [...notes, `not installed: ${names.join(", ")}; ${whatToDo}`] };
}

/** Installs the planned packages. What is not required may fail, once, with a line about it. */
export async function installPackages(names, { report, lockFd }) {
  const outcome = await withoutServiceStart(() =>
    aptInstall(findProgram("apt-get"), names, lockFd),
  );
  if (outcome.code === 0) return;
  const isRequired = PACKAGES.some((row) => row.isRequired && names.includes(row.name));
  const what = `\`${installCommand(names)}\` failed with status ${outcome.code}`;
  if (isRequired) throw new SetupError(what, tailOf(outcome.output));
  writeStamp(FAILED_STAMP, names.join(" "));
  report([what, ...tailOf(outcome.output, 3)].join("\n  "));
}

function installCommand(names) {
  return `apt-get install -y --no-install-recommends ${names.join(" ")}`;
}

/** Ubuntu's chromium package is a stub that fetches a snap, which needs snapd and a store. */
function fitToDistribution(missing) {
  const wanted = missing.filter((row) => row.name !== "chromium" || !isUbuntu());
  if (wanted.length === missing.length) return { wanted, notes: [] };
  const note =
    "no browser found, and Ubuntu packages Chromium only as a snap: install Google Chrome's .deb; " +
    "the browser tests need it";
  return { wanted, notes: [note] };
}

function isUbuntu() {
  try {
    return /^ID(?:_LIKE)?=.*ubuntu/mu.test(readFileSync("/etc/os-release", "utf8"));
  } catch {
    return false; // Not a distribution that says what it is.
  }
}

/** Package lists may be absent (a container image) or older than the mirror: one update, then again. */
async function aptInstall(apt, names, lockFd) {
  const env = { DEBIAN_FRONTEND: "noninteractive", NEEDRESTART_MODE: "l", LC_ALL: "C.UTF-8" };
  const install = () =>
    run(apt, [...APT_OPTIONS, "install", "-y", "--no-install-recommends", ...names], {
      env,
      lockFd,
    });
  const first = await install();
  if (first.code === 0) return first;
  const update = await run(apt, [...APT_OPTIONS, "update"], { env, lockFd });
  return update.code === 0 ? install() : update;
}

/**
 * Debian starts a service as soon as its package is unpacked, unless policy-rc.d answers 101
 * (invoke-rc.d(8)). A policy of the operator's own is left to decide.
 */
async function withoutServiceStart(work) {
  if (existsSync(POLICY_PATH) && !readFileSync(POLICY_PATH, "utf8").includes(POLICY_MARK))
    return work();
  const remove = () => rmSync(POLICY_PATH, { force: true });
  process.once("exit", remove);
  writeFileSync(POLICY_PATH, `#!/bin/sh\n${POLICY_MARK}\nexit 101\n`, { mode: 0o755 });
  try {
    return await work();
  } finally {
    remove();
    process.off("exit", remove);
  }
}
