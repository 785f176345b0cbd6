/**
 * The pool: where volumes live. A btrfs that is there, a btrfs image that is made, or plain
 * directories. Making and limiting volumes is the warden's work; choosing is done here.
 */
import { execFile } from "node:child_process";
import { access, constants, mkdir, open, rename, stat, statfs, unlink } from "node:fs/promises";
import { promisify } from "node:util";
import { BelljarError } from "@belljar/protocol";
import type { HostPath } from "../../kernel/index.ts";
import { GIB, MIB, hostPath } from "../../kernel/index.ts";

export type PoolKind = "btrfs" | "image" | "directory";

export interface PoolChoice {
  readonly kind: PoolKind;
  /** Directory below which every volume is a directory or subvolume of its own */
  readonly path: HostPath;
  /** The image file of kind `image` */
  readonly image?: HostPath;
  /** Why it is not a pool with snapshots and limits */
  readonly reason?: string;
}

export interface PoolOptions {
  readonly dataDir: HostPath;
  readonly asked: "auto" | PoolKind;
  /** Bytes of the image; null chooses */
  readonly imageBytes: number | null;
  readonly isPrivileged: boolean;
}

const BTRFS_MAGIC = 0x9123683e;
const IMAGE_BYTES_DEFAULT_MAX = 64 * GIB;
const IMAGE_FREE_SHARE = 0.8;
/** mkfs.btrfs needs a little over 100 MiB */
const IMAGE_BYTES_MIN = 256 * MIB;
const MKFS_MS_MAX = 60_000;
const MKFS_PATHS = ["/usr/sbin/mkfs.btrfs", "/sbin/mkfs.btrfs", "/usr/bin/mkfs.btrfs"] as const;

/** Decides the pool and makes its image file if it must. Throws LAYER_UNSUPPORTED for a pool that was asked for and cannot be. */
export async function choosePool(options: PoolOptions): Promise<PoolChoice> {
  const path = hostPath(`${options.dataDir}/volumes`);
  const image = hostPath(`${options.dataDir}/volumes.img`);
  const isBtrfs = (await statfs(options.dataDir)).type === BTRFS_MAGIC;
  const { asked } = options;
  if (asked === "directory") return { kind: "directory", path, reason: "storage.pool asks for it" };
  if (isBtrfs && asked !== "image") return { kind: "btrfs", path };
  if (asked === "btrfs") {
    throw new BelljarError("LAYER_UNSUPPORTED", `${options.dataDir} does not lie on btrfs`);
  }
  const obstacle = await imageObstacle(options, image);
  if (obstacle === undefined) {
    await ensureImage(image, options);
    return { kind: "image", path, image };
  }
  if (asked === "image") throw new BelljarError("LAYER_UNSUPPORTED", `no image pool: ${obstacle}`);
  return { kind: "directory", path, reason: `no image pool: ${obstacle}` };
}

/** What stands in the way of an image pool. */
async function imageObstacle(options: PoolOptions, image: HostPath): Promise<string | undefined> {
  if (!options.isPrivileged) return "mounting needs root";
  if (!(await isThere("/dev/loop-control"))) return "this machine has no loop devices";
  if (await isThere(image)) return undefined;
  if ((await findMkfs()) === undefined) return "mkfs.btrfs is not installed (package btrfs-progs)";
  const bytes = await imageBytes(options);
  if (bytes < IMAGE_BYTES_MIN) return `only ${Math.floor(bytes / MIB)} MiB would be free for it`;
  return undefined;
}

async function imageBytes({ dataDir, imageBytes: asked }: PoolOptions): Promise<number> {
  const { bavail, bsize } = await statfs(dataDir);
  const free = bavail * bsize * IMAGE_FREE_SHARE;
  const bytes = asked ?? Math.min(IMAGE_BYTES_DEFAULT_MAX, free);
  return Math.floor(bytes / MIB) * MIB;
}

/** A sparse file with a file system, under its final name only when it is complete. */
async function ensureImage(image: HostPath, options: PoolOptions): Promise<void> {
  if (await isThere(image)) return;
  const mkfs = await findMkfs();
  const unfinished = `${image}.new`;
  try {
    await mkdir(options.dataDir, { recursive: true });
    const file = await open(unfinished, "w", 0o600);
    await file.truncate(await imageBytes(options));
    await file.close();
    await promisify(execFile)(mkfs ?? MKFS_PATHS[0], ["-q", "-f", "-m", "single", unfinished], {
      timeout: MKFS_MS_MAX,
    });
    await rename(unfinished, image);
  } catch (cause) {
    await unlink(unfinished).catch(() => undefined); // what is left is taken over by the next try
    throw new BelljarError(
      "STORAGE_FAILED",
      `the pool's image ${image} could not be made`,
      {},
      { cause },
    );
  }
}

async function findMkfs(): Promise<string | undefined> {
  for (const path of MKFS_PATHS) {
    const isRunnable = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isRunnable) return path;
  }
  return undefined;
}

function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
