import {
  changeModeRequestSchema,
  changeOwnerRequestSchema,
  fileListSchema,
  fileStatSchema,
  listFilesQuerySchema,
  makeDirectoryRequestSchema,
  moveFileRequestSchema,
  patchXattrsRequestSchema,
  removeFileQuerySchema,
  statQuerySchema,
  xattrQuerySchema,
  xattrsSchema,
} from "@belljar/protocol";
import { z } from "zod";
import { MIB } from "../../kernel/index.ts";
import { filesOf } from "../file-user.ts";
import { toFileStat } from "../guest-views.ts";
import { sandboxParams } from "../request.ts";
import type { Api, RouteContext } from "../services.ts";

const TAGS = ["files"];
const params = sandboxParams;
/** Bytes of names and targets in one answer: what is inside chooses how long they are */
const LIST_BYTES_MAX = 16 * MIB;

/** Files: what is there, and changes to it. Content and watching have files of their own. */
export function registerFiles(api: Api, context: RouteContext): void {
  registerReads(api, context);
  registerChanges(api, context);
  registerOwnership(api, context);
  registerAttributes(api, context);
}

function registerReads(api: Api, { sandboxes }: RouteContext): void {
  api.get(
    "/v1/sandboxes/:id/files",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "listFiles",
        summary: "List a directory, deeper ones too with `depth`",
        params,
        querystring: listFilesQuerySchema.strict(),
        response: { 200: fileListSchema },
      },
    },
    async ({ params: { id }, query }) => {
      const { guest, user } = await filesOf(sandboxes, id, query.user);
      const { path, depth, limit } = query;
      const base = path.endsWith("/") ? path : `${path}/`;
      const items = [];
      let bytes = 0;
      for await (const entry of guest.list(path, { user, depth })) {
        const item = toFileStat(entry, base + entry.name);
        bytes += item.path.length + item.name.length + (item.symlinkTarget?.length ?? 0);
        // Leaving the loop closes the guest's connection, so a huge directory costs no more than asked for.
        if (items.length === limit || bytes > LIST_BYTES_MAX) return { items, truncated: true };
        items.push(item);
      }
      return { items, truncated: false };
    },
  );
  api.get(
    "/v1/sandboxes/:id/files/stat",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "statFile",
        summary: "Look at one file",
        params,
        querystring: statQuerySchema.strict(),
        response: { 200: fileStatSchema },
      },
    },
    async ({ params: { id }, query }) => {
      const { guest, user } = await filesOf(sandboxes, id, query.user);
      const { path, followSymlink } = query;
      return toFileStat(await guest.stat(path, { user, followSymlink }), path);
    },
  );
}

function registerChanges(api: Api, { sandboxes }: RouteContext): void {
  api.delete(
    "/v1/sandboxes/:id/files",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "removeFile",
        summary: "Remove a file, or a directory with all below it when `recursive`",
        params,
        querystring: removeFileQuerySchema.strict(),
        response: { 204: z.null() },
      },
    },
    async ({ params: { id }, query }, reply) => {
      const { guest, user } = await filesOf(sandboxes, id, query.user);
      await guest.remove(query.path, { user, recursive: query.recursive });
      return reply.code(204).send(null);
    },
  );
  api.post(
    "/v1/sandboxes/:id/files/directory",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "makeDirectory",
        summary: "Make a directory, its parents too unless told otherwise",
        params,
        body: makeDirectoryRequestSchema,
        response: { 204: z.null() },
      },
    },
    async ({ params: { id }, body }, reply) => {
      const { guest, user } = await filesOf(sandboxes, id, body.user);
      const { path, mode, parents } = body;
      const bits = mode === undefined ? {} : { mode: Number.parseInt(mode, 8) };
      await guest.makeDirectory(path, { user, ...bits, parents });
      return reply.code(204).send(null);
    },
  );
  api.post(
    "/v1/sandboxes/:id/files/move",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "moveFile",
        summary: "Move or rename",
        params,
        body: moveFileRequestSchema,
        response: { 204: z.null() },
      },
    },
    async ({ params: { id }, body }, reply) => {
      const { guest, user } = await filesOf(sandboxes, id, body.user);
      await guest.move(body.from, body.to, { user, noReplace: !body.overwrite });
      return reply.code(204).send(null);
    },
  );
}

function registerOwnership(api: Api, { sandboxes }: RouteContext): void {
  api.post(
    "/v1/sandboxes/:id/files/mode",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "changeMode",
        summary: "Change permission bits, never through a symlink",
        params,
        body: changeModeRequestSchema,
        response: { 204: z.null() },
      },
    },
    async ({ params: { id }, body }, reply) => {
      const { guest, user } = await filesOf(sandboxes, id, body.user);
      await guest.chmod(body.path, Number.parseInt(body.mode, 8), { user });
      return reply.code(204).send(null);
    },
  );
  api.post(
    "/v1/sandboxes/:id/files/owner",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "changeOwner",
        summary: "Change the owner, as root, never through a symlink",
        params,
        body: changeOwnerRequestSchema,
        response: { 204: z.null() },
      },
    },
    async ({ params: { id }, body }, reply) => {
      const { guest } = await filesOf(sandboxes, id, "root");
      const [owner = "", group] = body.owner.split(":");
      const target = group === undefined ? { owner } : { owner, group };
      await guest.chown(body.path, target, { user: "root" });
      return reply.code(204).send(null);
    },
  );
}

function registerAttributes(api: Api, { sandboxes }: RouteContext): void {
  api.get(
    "/v1/sandboxes/:id/files/xattrs",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "getAttributes",
        summary: "Extended attributes `user.*`, values in base64",
        params,
        querystring: xattrQuerySchema.strict(),
        response: { 200: xattrsSchema },
      },
    },
    async ({ params: { id }, query }) => {
      const { guest, user } = await filesOf(sandboxes, id, query.user);
      const attributes: Record<string, string> = {};
      for (const name of await guest.listXattrs(query.path, { user })) {
        const value = await guest.getXattr(query.path, name, { user });
        attributes[name] = Buffer.from(value).toString("base64");
      }
      return { attributes };
    },
  );
  api.patch(
    "/v1/sandboxes/:id/files/xattrs",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "patchAttributes",
        summary: "Set extended attributes `user.*`; null removes one",
        params,
        body: patchXattrsRequestSchema,
        response: { 204: z.null() },
      },
    },
    async ({ params: { id }, body }, reply) => {
      const { guest, user } = await filesOf(sandboxes, id, body.user);
      for (const [name, value] of Object.entries(body.attributes)) {
        if (value === null) await guest.removeXattr(body.path, name, { user });
        else
          await guest.setXattr(body.path, { name, value: Buffer.from(value, "base64") }, { user });
      }
      return reply.code(204).send(null);
    },
  );
}
