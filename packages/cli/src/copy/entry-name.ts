import { BelljarError } from "@belljar/protocol";

const PART_BYTES_MAX = 255;

/**
 * The parts of an archive entry's name, checked. The archive comes out of a sandbox, so it is written
 * by whoever owns the sandbox: a name that is absolute, climbs, or holds a NUL is no accident, and
 * ends the copy.
 */
export function safeParts(name: string): string[] {
  if (name.startsWith("/")) throw hostile(name, "it is absolute");
  if (name.includes("\0")) throw hostile(name, "it holds a NUL");
  const parts = name.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw hostile(name, "it climbs out of the target");
  if (parts.some((part) => Buffer.byteLength(part) > PART_BYTES_MAX))
    throw hostile(name, "a part of it is too long");
  return parts;
}

function hostile(name: string, why: string): BelljarError {
  return new BelljarError(
    "FILE_PATH_INVALID",
    `the sandbox sent the entry ${JSON.stringify(name.slice(0, PART_BYTES_MAX))}: ${why}; the copy ends here`,
    { name },
  );
}

/**
 * Whether a symbolic link that lies `depth` directories below the copy's root can only lead to places
 * within it. It must be relative, may climb only at its start, and not above the root. Then every step
 * of it ends in a directory of the copy or in another link that keeps the same rule, so no chain of
 * links leads out.
 */
export function staysInside(target: string, depth: number): boolean {
  if (target === "" || target.startsWith("/") || target.includes("\0")) return false;
  const parts = target.split("/").filter((part) => part !== "" && part !== ".");
  const climbs = parts.findIndex((part) => part !== "..");
  const leading = climbs < 0 ? parts.length : climbs;
  return leading <= depth && !parts.slice(leading).includes("..");
}
