import { BelljarError } from "@belljar/protocol";
import { callGuest, FrameChannel } from "./channel.ts";
import {
  checkMode,
  checkPath,
  checkUser,
  decodeStat,
  FILE_FLAG,
  fileCall,
  fileFields,
  flagIf,
} from "./file-codec.ts";
import { Fields, OP, SAY, TAG } from "./frames.ts";
import type {
  ChownRequest,
  FileOptions,
  FileStat,
  GuestConnect,
  ListOptions,
  MakeDirectoryOptions,
  MoveOptions,
  RemoveOptions,
  StatOptions,
} from "./types.ts";

const XATTR_COUNT_MAX = 4096;

const unexpected = (type: number): BelljarError =>
  new BelljarError("GUEST_PROTOCOL", `the guest answered a file operation with frame ${type}`);

/** What is known of one file. */
export async function statFile(
  connect: GuestConnect,
  path: string,
  options: StatOptions,
): Promise<FileStat> {
  const flags = flagIf(options.followSymlink === false, FILE_FLAG.noFollow);
  const request = fileFields(path, options, flags).frame(OP.stat);
  return decodeStat(await callGuest(connect, fileCall(path, options, request)));
}

/** Entries of a directory as they are read, unsorted; a directory before what is in it. */
export async function* listFiles(
  connect: GuestConnect,
  path: string,
  options: ListOptions,
): AsyncGenerator<FileStat> {
  const request = fileFields(path, options, 0).u32(TAG.depth, options.depth).frame(OP.list);
  const channel = await FrameChannel.open(connect, fileCall(path, options, request));
  try {
    for (;;) {
      const frame = await channel.next();
      if (frame.type === SAY.end) return;
      if (frame.type !== SAY.entry) throw unexpected(frame.type);
      yield decodeStat(frame.payload);
    }
  } finally {
    channel.close();
  }
}

/** Makes a directory; with `parents` an existing one is no error. */
export async function makeDirectory(
  connect: GuestConnect,
  path: string,
  options: MakeDirectoryOptions,
): Promise<FileStat> {
  const fields = fileFields(path, options, flagIf(options.parents, FILE_FLAG.parents));
  const request = fields.u32(TAG.mode, checkMode(options.mode)).frame(OP.mkdir);
  return decodeStat(await callGuest(connect, fileCall(path, options, request)));
}

/** Renames within the sandbox; a symlink itself is moved. */
export async function moveFile(
  connect: GuestConnect,
  from: string,
  to: string,
  options: MoveOptions,
): Promise<FileStat> {
  const flags =
    flagIf(options.noReplace, FILE_FLAG.noReplace) | flagIf(options.parents, FILE_FLAG.parents);
  const request = fileFields(from, options, flags).put(TAG.to, checkPath(to)).frame(OP.move);
  return decodeStat(await callGuest(connect, fileCall(`${from} to ${to}`, options, request)));
}

/** Removes a file, an empty directory, or with `recursive` everything below it; never through a symlink. */
export async function removeFile(
  connect: GuestConnect,
  path: string,
  options: RemoveOptions,
): Promise<void> {
  const request = fileFields(path, options, flagIf(options.recursive, FILE_FLAG.recursive)).frame(
    OP.remove,
  );
  await callGuest(connect, fileCall(path, options, request));
}

export async function changeMode(
  connect: GuestConnect,
  path: string,
  mode: number,
  options: FileOptions,
): Promise<FileStat> {
  const request = fileFields(path, options, 0).u32(TAG.mode, checkMode(mode)).frame(OP.chmod);
  return decodeStat(await callGuest(connect, fileCall(path, options, request)));
}

export async function changeOwner(
  connect: GuestConnect,
  path: string,
  to: ChownRequest,
  options: FileOptions,
): Promise<FileStat> {
  const fields = fileFields(path, options, 0);
  fields.put(TAG.owner, checkUser(to.owner)).put(TAG.group, checkUser(to.group));
  return decodeStat(await callGuest(connect, fileCall(path, options, fields.frame(OP.chown))));
}

/** An attribute's value. FILE_NO_ATTRIBUTE where there is none. */
export async function getXattr(
  connect: GuestConnect,
  path: string,
  name: string,
  options: FileOptions,
): Promise<Uint8Array> {
  const request = fileFields(path, options, 0)
    .put(TAG.name, checkXattrName(name))
    .frame(OP.xattrGet);
  return new Fields(await callGuest(connect, fileCall(path, options, request))).bytes(TAG.value);
}

export async function setXattr(
  connect: GuestConnect,
  path: string,
  attribute: { name: string; value: Uint8Array },
  options: FileOptions,
): Promise<void> {
  const { name, value } = attribute;
  if (value.byteLength > 65_536)
    throw new BelljarError(
      "BAD_REQUEST",
      `the value of ${name} has ${value.byteLength} bytes, 65536 at most`,
    );
  const fields = fileFields(path, options, 0)
    .put(TAG.name, checkXattrName(name))
    .put(TAG.value, value);
  await callGuest(connect, fileCall(path, options, fields.frame(OP.xattrSet)));
}

/** Names of the `user.` attributes. */
export async function listXattrs(
  connect: GuestConnect,
  path: string,
  options: FileOptions,
): Promise<string[]> {
  const request = fileFields(path, options, 0).frame(OP.xattrList);
  const names = new Fields(await callGuest(connect, fileCall(path, options, request))).texts(
    TAG.name,
  );
  if (names.length > XATTR_COUNT_MAX)
    throw new BelljarError("GUEST_PROTOCOL", "the guest sent too many attributes");
  return names;
}

export async function removeXattr(
  connect: GuestConnect,
  path: string,
  name: string,
  options: FileOptions,
): Promise<void> {
  const request = fileFields(path, options, 0)
    .put(TAG.name, checkXattrName(name))
    .frame(OP.xattrRemove);
  await callGuest(connect, fileCall(path, options, request));
}

function checkXattrName(name: string): string {
  if (!/^user\.[^\0]+$/.test(name) || Buffer.byteLength(name) > 255)
    throw new BelljarError(
      "BAD_REQUEST",
      `${JSON.stringify(name)} is not the name of a user attribute`,
      { name },
    );
  return name;
}
