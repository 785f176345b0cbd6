/** The Debian packages that this repository needs: which are missing, and how they get installed. */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { findProgram } from "./paths.mjs";
import { run, SetupError, tailOf } from "./run.mjs";

const POLICY_PATH = "/usr/sbin/policy-rc.d";
const POLICY_MARK = "# Made by Belljar's set-up; removed when it ends.";
const APT_OPTIONS = ["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"];

/** Browsers that the end-to-end tests can drive; a snap comes last, for it cannot see temporary directories. */
export const BROWSERS = [
  "google-chrome-stable",
  "google-chrome",
  "chromium",
  "/usr/lib/chromium/chromium",
  "chromium-browser",
  "/snap/bin/chromium",
];

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
  { name: "chromium", purpose: "tests", isThere: () => findProgram(...BROWSERS) },
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

/** Installs what is missing where that is possible; otherwise says what to type. */
export async function installPackages(missing, { report, lockFd }) {
  const { wanted, notes } = fitToDistribution(missing);
  for (const note of notes) report(note);
  if (wanted.length === 0) return;
  const names = wanted.map((row) => row.name);
  const command = `apt-get install -y --no-install-recommends ${names.join(" ")}`;
  const apt = findProgram("apt-get");
  if (apt === undefined)
    return refuseOrNote(wanted, "install what provides: " + names.join(", "), report);
  if (process.getuid?.() !== 0) return refuseOrNote(wanted, `run: sudo ${command}`, report);
  report(`installing ${names.join(", ")}`);
  const outcome = await withoutServiceStart(() => aptInstall(apt, names, lockFd));
  if (outcome.code === 0) return;
  if (wanted.some((row) => row.isRequired)) {
    throw new SetupError(
      `\`${command}\` failed with status ${outcome.code}`,
      tailOf(outcome.output),
    );
  }
  report(`could not install ${names.join(", ")}: ${tailOf(outcome.output, 1)[0]}`);
}

/** Ubuntu's chromium package is a stub that fetches a snap, which needs snapd and a store. */
function fitToDistribution(missing) {
  if (!readOsRelease().includes("ubuntu")) return { wanted: missing, notes: [] };
  const wanted = missing.filter((row) => row.name !== "chromium");
  const notes =
    wanted.length === missing.length
      ? []
      : [
          "no browser found, and Ubuntu packages Chromium only as a snap: install Google Chrome's .deb, " +
            "or point BELLJAR_CHROMIUM at a Chrome or Chromium binary; the browser tests need it",
        ];
  return { wanted, notes };
}

function readOsRelease() {
  try {
    const lines = readFileSync("/etc/os-release", "utf8").split("\n");
    return lines
      .filter((line) => /^ID(?:_LIKE)?=/u.test(line))
      .join(" ")
      .toLowerCase();
  } catch {
    return ""; // Not a distribution that says what it is; apt-get's presence decides.
  }
}

function refuseOrNote(wanted, whatToDo, report) {
  const required = wanted.filter((row) => row.isRequired).map((row) => row.name);
  if (required.length > 0) throw new SetupError(`${required.join(", ")} missing; ${whatToDo}`);
  report(`not installed: ${wanted.map((row) => row.name).join(", ")}; ${whatToDo}`);
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
