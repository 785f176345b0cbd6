import type { Dirent } from "node:fs";
import { lstat, open, readdir, readlink } from "node:fs/promises";
import { dirname, join, posix } from "node:path";
import { BelljarError } from "@belljar/protocol";
import { KIB, MIB } from "../kernel/index.ts";
import type { RootEntry } from "./entries.ts";

const FILE_BYTES_MAX = 8 * MIB;
const TOTAL_BYTES_MAX = 64 * MIB;
const ENTRIES_MAX = 20_000;
const DEPTH_MAX = 6;
/** Alternatives of manual pages outnumber those of programs by far */
const MANUAL_PAGE = ".gz";
const READABLE_BY_ALL = 0o004;
const SECRET_MARK = "PRIVATE KEY-----";
const SECRET_SCAN_BYTES_MAX = 256 * KIB;

/**
 * What of the host's `/etc` is shown inside, as copies: what makes libraries, time zones, certificates,
 * terminals, fonts and Java work. Everything that can hold a person's settings, names or secrets stays out.
 */
const SHOWN = [
  "alternatives",
  "ca-certificates/extracted",
  "crypto-policies",
  "debian_version",
  "fonts",
  "ld.so.cache",
  "ld.so.conf",
  "ld.so.conf.d",
  "localtime",
  "mime.types",
  "os-release",
  "pki/ca-trust/extracted",
  "pki/tls/cert.pem",
  "pki/tls/certs",
  "protocols",
  "services",
  "ssl/cert.pem",
  "ssl/certs",
  "ssl/openssl.cnf",
  "terminfo",
  "timezone",
] as const;

/** Java keeps its settings in a folder named after its version. */
const JAVA = /^java-[0-9]+-[a-z]+$/;

interface Budget {
  bytes: number;
  entries: number;
}

/**
 * Copies of the shown part of `etcDir`. Only files that everyone on the host may read, no keys, and only
 * symlinks that lead below `/usr` or stay within `/etc`.
 */
export async function readHostEtc(etcDir: string): Promise<RootEntry[]> {
  const budget: Budget = { bytes: 0, entries: 0 };
  const entries: RootEntry[] = [];
  const java = (await readdir(etcDir)).filter((name) => JAVA.test(name));
  for (const path of [...SHOWN, ...java])
    await collect(etcDir, path, { entries, budget, depth: 0 });
  return entries;
}

interface Collecting {
  readonly entries: RootEntry[];
  readonly budget: Budget;
  readonly depth: number;
}

async function collect(etcDir: string, path: string, into: Collecting): Promise<void> {
  const source = join(etcDir, path);
  const stat = await lstat(source).catch(() => undefined);
  if (stat === undefined || into.depth > DEPTH_MAX) return;
  into.budget.entries += 1;
  if (into.budget.entries > ENTRIES_MAX) throw tooLarge(etcDir, `${ENTRIES_MAX} files`);
  const at = posix.join("etc", path);
  if (stat.isSymbolicLink()) {
    const target = await readlink(source);
    if (isShownTarget(at, target)) into.entries.push({ kind: "symlink", path: at, target });
    else if (into.depth === 0) await collectTarget(etcDir, { path, target }, into);
  } else if (stat.isDirectory()) {
    if ((stat.mode & READABLE_BY_ALL) === 0) return;
    into.entries.push({ kind: "directory", path: at, mode: 0o755 });
    const names = await readdir(source, { withFileTypes: true }).catch((): Dirent[] => []);
    for (const { name } of names.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
      if (name.endsWith(MANUAL_PAGE)) continue;
      await collect(etcDir, posix.join(path, name), { ...into, depth: into.depth + 1 });
    }
  } else if (stat.isFile() && (stat.mode & READABLE_BY_ALL) !== 0) {
    const content = await readPublicFile(source, into.budget);
    if (content !== undefined) into.entries.push({ kind: "file", path: at, mode: 0o644, content });
  }
}

/** A listed file that is a link to somewhere not shown, such as a bundle below `/var`: its content is copied. */
async function collectTarget(
  etcDir: string,
  link: { path: string; target: string },
  into: Collecting,
): Promise<void> {
  const source = join(etcDir, link.path);
  const content = await readPublicFile(source, into.budget).catch(() => undefined);
  if (content === undefined) return;
  into.entries.push({ kind: "file", path: posix.join("etc", link.path), mode: 0o644, content });
}

/** Whether a link at `at` resolves, as text, below `/usr` or within `/etc`. */
function isShownTarget(at: string, target: string): boolean {
  const resolved = posix.resolve("/", dirname(at), target);
  return (
    resolved.startsWith("/usr/") ||
    resolved.startsWith("/etc/alternatives/") ||
    isShownPath(resolved)
  );
}

function isShownPath(resolved: string): boolean {
  const relative = posix.relative("/etc", resolved);
  return (
    SHOWN.some((shown) => relative === shown || relative.startsWith(`${shown}/`)) ||
    JAVA.test(relative.split("/")[0] ?? "")
  );
}

async function readPublicFile(path: string, budget: Budget): Promise<Buffer | undefined> {
  await using file = await open(path, "r");
  const stat = await file.stat();
  if (!stat.isFile() || (stat.mode & READABLE_BY_ALL) === 0 || stat.size > FILE_BYTES_MAX)
    return undefined;
  budget.bytes += stat.size;
  if (budget.bytes > TOTAL_BYTES_MAX) throw tooLarge(path, `${TOTAL_BYTES_MAX} bytes`);
  const content = await file.readFile();
  const hasKey = content.subarray(0, SECRET_SCAN_BYTES_MAX).includes(SECRET_MARK);
  return hasKey ? undefined : content;
}

function tooLarge(path: string, limit: string): BelljarError {
  return new BelljarError("STORAGE_FAILED", `the host's ${path} has more than ${limit} to show`, {
    path,
  });
}
