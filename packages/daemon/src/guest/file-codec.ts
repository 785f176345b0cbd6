import { BelljarError } from "@belljar/protocol";
import { LIMITS } from "../kernel/index.ts";
import type { Call } from "./channel.ts";
import { Fields, FieldWriter, TAG } from "./frames.ts";
import type { FileOptions, FileStat, GuestFileType } from "./types.ts";

export const FILE_FLAG = {
  parents: 1,
  append: 2,
  sync: 4,
  noReplace: 8,
  recursive: 16,
  noFollow: 32,
} as const;

const FILE_TYPES: readonly GuestFileType[] = [
  "file",
  "directory",
  "symlink",
  "fifo",
  "socket",
  "device",
];
const USER_BYTES_MAX = 127;
const NANOSECONDS_PER_MS = 1_000_000n;
const MODE_MAX = 0o7777;

/** The flag's bits where `isSet`. */
export const flagIf = (isSet: boolean | undefined, flag: number): number =>
  isSet === true ? flag : 0;

/** A path as the kernel would take it; FILE_PATH_INVALID otherwise. */
export function checkPath(path: string): string {
  if (!path.startsWith("/") || path.includes("\0") || Buffer.byteLength(path) > LIMITS.pathBytesMax)
    throw new BelljarError(
      "FILE_PATH_INVALID",
      "a path is absolute, without NUL and at most 4095 bytes long",
      { path: path.slice(0, LIMITS.pathBytesMax) },
    );
  return path;
}

/** Permission bits; BAD_REQUEST for others. */
export function checkMode(mode: number | undefined): number | undefined {
  if (mode !== undefined && (!Number.isInteger(mode) || mode < 0 || mode > MODE_MAX))
    throw new BelljarError("BAD_REQUEST", `mode ${mode} is not between 0 and 07777`, { mode });
  return mode;
}

/** A user or group; BAD_REQUEST for what cannot be one. */
export function checkUser(user: string | undefined): string | undefined {
  if (user === undefined) return undefined;
  if (user === "" || user.includes("\0") || Buffer.byteLength(user) > USER_BYTES_MAX)
    throw new BelljarError(
      "EXEC_USER_UNKNOWN",
      `no user ${JSON.stringify(user.slice(0, USER_BYTES_MAX))}`,
    );
  return user;
}

/** The fields that every file operation has. */
export function fileFields(path: string, options: FileOptions, flags: number): FieldWriter {
  const fields = new FieldWriter()
    .put(TAG.path, checkPath(path))
    .put(TAG.user, checkUser(options.user));
  return flags === 0 ? fields : fields.u32(TAG.flags, flags);
}

export function fileCall(path: string, options: FileOptions, request: Uint8Array): Call {
  return { request, context: "file", subject: path, signal: options.signal };
}

/** A file's description, from an OK or ENTRY frame. */
export function decodeStat(payload: Uint8Array): FileStat {
  const fields = new Fields(payload);
  const type = FILE_TYPES[fields.u32(TAG.type)];
  if (type === undefined)
    throw new BelljarError("GUEST_PROTOCOL", "the guest sent an unknown file type");
  return {
    name: fields.text(TAG.name),
    type,
    size: fields.u64(TAG.size),
    mode: fields.u32(TAG.mode),
    uid: fields.u32(TAG.uid),
    gid: fields.u32(TAG.gid),
    owner: fields.text(TAG.userName),
    group: fields.text(TAG.groupName),
    modifiedAtMs: Number(fields.i64(TAG.mtimeNs) / NANOSECONDS_PER_MS),
    symlinkTarget: fields.textOrNull(TAG.target),
  };
}
