import { constants } from "node:fs";
import { chmod, lstat, open, rm, stat, symlink } from "node:fs/promises";
import { join } from "node:path";
import { BelljarError } from "@belljar/protocol";
import { makeDirectory } from "../make-directory.ts";

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
/** Set-id and sticky bits are not brought out: a sandbox's root decides them, and here they would count */
const PERMISSION_BITS = 0o777;
const OWNER_ACCESS = 0o700;
const DIRECTORY_MODE = 0o777;

/**
 * A directory of this machine that takes entries of a sandbox. Nothing is ever written through a
 * symbolic link: parents are looked at one by one, files are made afresh, and links come last.
 */
export class TargetDirectory {
  readonly #root: string;
  readonly #known = new Set<string>();
  readonly #modes = new Map<string, number>();
  readonly #links = new Map<string, string>();
  #madeRoot = false;

  constructor(root: string) {
    this.#root = root;
  }

  /** Makes a directory; its mode is set at the end, so that one without write permission can be filled. */
  async directory(parts: readonly string[], mode: number | undefined): Promise<void> {
    await this.#ensure(parts);
    // A root that was there before keeps the mode that its owner gave it.
    if (mode !== undefined && (parts.length > 0 || this.#madeRoot))
      this.#modes.set(parts.join("/"), mode & PERMISSION_BITS);
  }

  /** Writes a file of its own, in place of whatever file or link has its name. */
  async file(
    parts: readonly string[],
    mode: number,
    content: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const path = await this.#vacate(parts);
    const file = await open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, OWNER_ACCESS & mode);
    try {
      for await (const data of content) await file.writeFile(data);
      await file.chmod(mode & PERMISSION_BITS);
    } finally {
      await file.close();
    }
  }

  /** A second name of a file that this copy has brought: copied, so that later writes stay apart. False for a link's. */
  async hardLink(parts: readonly string[], existing: readonly string[]): Promise<boolean> {
    if (this.#links.has(existing.join("/"))) return false;
    await this.#ensure(existing.slice(0, -1));
    const source = await open(join(this.#root, ...existing), constants.O_RDONLY | O_NOFOLLOW);
    try {
      const facts = await source.stat();
      if (!facts.isFile())
        throw notDirectory(existing, "is not a file that could have a second name");
      await this.file(parts, facts.mode, source.createReadStream({ autoClose: false }));
      return true;
    } finally {
      await source.close();
    }
  }

  /** Notes a symbolic link; {@link finish} makes it. */
  async symlink(parts: readonly string[], target: string): Promise<void> {
    await this.#ensure(parts.slice(0, -1));
    this.#links.set(parts.join("/"), target);
  }

  /** Makes the links and sets the directories' modes, deepest first. */
  async finish(): Promise<void> {
    for (const [name, target] of this.#links)
      await symlink(target, await this.#vacate(name.split("/")));
    const deepestFirst = [...this.#modes].toSorted(
      ([a], [b]) => b.split("/").length - a.split("/").length,
    );
    for (const [name, mode] of deepestFirst) await chmod(join(this.#root, name), mode);
  }

  /** Makes the parents, and removes a file or link that has the name. */
  async #vacate(parts: readonly string[]): Promise<string> {
    await this.#ensure(parts.slice(0, -1));
    const path = join(this.#root, ...parts);
    const facts = await factsOf(path);
    if (facts?.isDirectory() === true)
      throw notDirectory(parts, "is a directory here, and a file in the sandbox");
    if (facts !== undefined) await rm(path);
    this.#links.delete(parts.join("/"));
    return path;
  }

  async #ensure(parts: readonly string[]): Promise<void> {
    for (let length = 0; length <= parts.length; length += 1) {
      const name = parts.slice(0, length).join("/");
      if (this.#known.has(name)) continue;
      const path = join(this.#root, name);
      // The root is the person's own choice, and may be a link of theirs; nothing below it may.
      const facts = length === 0 ? await stat(path).catch(ignoreMissing) : await factsOf(path);
      if (facts === undefined) {
        await makeDirectory(path, DIRECTORY_MODE);
        this.#madeRoot ||= length === 0;
      } else if (!facts.isDirectory())
        throw notDirectory(parts, "lies below something that is not a directory here");
      this.#known.add(name);
    }
  }
}

function factsOf(path: string) {
  return lstat(path).catch(ignoreMissing);
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error;
}

function notDirectory(parts: readonly string[], why: string): BelljarError {
  return new BelljarError("FILE_NOT_DIRECTORY", `${parts.join("/")} ${why}`, {
    name: parts.join("/"),
  });
}
