import { z } from "zod";
import { flagQuerySchema, instant, sandboxPathSchema, userSchema } from "./common.ts";

/** What kind of thing a path names. */
export const fileTypeSchema = z.enum(["file", "directory", "symlink", "fifo", "socket", "device"]);
export type FileType = z.infer<typeof fileTypeSchema>;

/** One file as `stat` sees it; `path` is absolute. */
export const fileStatSchema = z
  .object({
    path: z.string(),
    name: z.string(),
    type: fileTypeSchema,
    size: z.number(),
    /** Permission bits, octal text such as `0644` */
    mode: z.string(),
    uid: z.number(),
    gid: z.number(),
    owner: z.string(),
    group: z.string(),
    modifiedAt: instant,
    symlinkTarget: z.string().nullable(),
  })
  .meta({ id: "FileStat" });
export type FileStat = z.infer<typeof fileStatSchema>;

/** Directory entries; `truncated` says that there are more than asked for. */
export const fileListSchema = z
  .object({ items: z.array(fileStatSchema), truncated: z.boolean() })
  .meta({ id: "FileList" });
export type FileList = z.infer<typeof fileListSchema>;

const asUser = { path: sandboxPathSchema, user: userSchema.optional() };

/** `GET …/files/stat` */
export const statQuerySchema = z.object({
  ...asUser,
  followSymlink: flagQuerySchema.default(true),
});
/** `GET …/files`: the entries of a directory, deeper ones too with `depth`. */
export const listFilesQuerySchema = z.object({
  ...asUser,
  depth: z.coerce.number().int().min(1).max(32).default(1),
  limit: z.coerce.number().int().min(1).max(100_000).default(10_000),
});
/** `GET …/files/content` */
export const readFileQuerySchema = z.object({
  ...asUser,
  offset: z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(0),
  length: z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).optional(),
});
const modeSchema = z.string().regex(/^[0-7]{3,4}$/, "must be octal, such as 0644");
/** `PUT …/files/content`: the body is the file's bytes. */
export const writeFileQuerySchema = z.object({
  ...asUser,
  mode: modeSchema.optional(),
  /** Makes missing parent directories */
  parents: flagQuerySchema.default(true),
});
/** `DELETE …/files` */
export const removeFileQuerySchema = z.object({
  ...asUser,
  recursive: flagQuerySchema.default(false),
});
/** `POST …/files/directory` */
export const makeDirectoryRequestSchema = z
  .strictObject({ ...asUser, mode: modeSchema.optional(), parents: z.boolean().default(true) })
  .meta({ id: "MakeDirectoryRequest" });
/** `POST …/files/move` */
export const moveFileRequestSchema = z
  .strictObject({
    from: sandboxPathSchema,
    to: sandboxPathSchema,
    user: userSchema.optional(),
    overwrite: z.boolean().default(false),
  })
  .meta({ id: "MoveFileRequest" });
/** `POST …/files/mode` */
export const changeModeRequestSchema = z
  .strictObject({ ...asUser, mode: modeSchema })
  .meta({ id: "ChangeModeRequest" });
/** `POST …/files/owner`: acts as root, never through a symlink. */
export const changeOwnerRequestSchema = z
  .strictObject({ path: sandboxPathSchema, owner: userSchema })
  .meta({ id: "ChangeOwnerRequest" });
/** Extended attributes, `user.*`, values in base64. */
export const xattrQuerySchema = z.object(asUser);
/** The extended attributes of one file, values in base64. */
export const xattrsSchema = z
  .object({ attributes: z.record(z.string(), z.string()) })
  .meta({ id: "ExtendedAttributes" });
/** `PATCH …/files/xattrs`: null removes. */
export const patchXattrsRequestSchema = z
  .strictObject({
    ...asUser,
    attributes: z.record(
      z.string().regex(/^user\.[^\0]{1,250}$/),
      z.string().max(90_000).nullable(),
    ),
  })
  .meta({ id: "PatchExtendedAttributesRequest" });

/** `GET …/files/watch`: server-sent events named `change`, `overflow`, `error`. */
export const watchQuerySchema = z.object({ ...asUser, recursive: flagQuerySchema.default(true) });
/** One change below a watched directory. */
export const fileChangeSchema = z
  .object({
    kind: z.enum(["created", "modified", "removed", "renamed", "attributes", "overflow"]),
    /** Relative to the watched directory */
    path: z.string(),
    fromPath: z.string().optional(),
  })
  .meta({ id: "FileChange" });
export type FileChange = z.infer<typeof fileChangeSchema>;
