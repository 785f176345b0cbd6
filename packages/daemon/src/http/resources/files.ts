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
import { toFileStat } from "../guest-views.ts";
import { sandboxParams } from "../request.ts";
import type { Api, RouteContext } from "../services.ts";

const TAGS = ["files"];
const params = sandboxParams;

/** Files: what is there, and changes to it. Content and watching have files of their own. */
export function registerFiles(api: Api, context: RouteContext): void {
  registerReads(api, context);
  registerChanges(api, context);
  registerOwnership(api, context);
  registerAttributes(api, context);
}

/** Options without the undefined ones. */
function asUser(query: { user?: string | undefined }): { user?: string } {
  return query.user === undefined ? {} : { user: query.user };
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
      const guest = await sandboxes.guest(id);
      const { path, depth, limit } = query;
      const base = path.endsWith("/") ? path : `${path}/`;
      const items = [];
      for await (const entry of guest.list(path, { ...asUser(query), depth })) {
        // Leaving the loop closes the guest's connection, so a huge directory costs no more than asked for.
        if (items.length === limit) return { items, truncated: true };
        items.push(toFileStat(entry, base + entry.name));
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
      const guest = await sandboxes.guest(id);
      const { path, followSymlink } = query;
      return toFileStat(await guest.stat(path, { ...asUser(query), followSymlink }), path);
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
      const guest = await sandboxes.guest(id);
      await guest.remove(query.path, { ...asUser(query), recursive: query.recursive });
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
      const guest = await sandboxes.guest(id);
      const { path, mode, parents } = body;
      const bits = mode === undefined ? {} : { mode: Number.parseInt(mode, 8) };
      await guest.makeDirectory(path, { ...asUser(body), ...bits, parents });
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
      const guest = await sandboxes.guest(id);
      await guest.move(body.from, body.to, { ...asUser(body), noReplace: !body.overwrite });
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
      const guest = await sandboxes.guest(id);
      await guest.chmod(body.path, Number.parseInt(body.mode, 8), asUser(body));
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
      const guest = await sandboxes.guest(id);
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
      const guest = await sandboxes.guest(id);
      const attributes: Record<string, string> = {};
      for (const name of await guest.listXattrs(query.path, asUser(query))) {
        const value = await guest.getXattr(query.path, name, asUser(query));
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
      const guest = await sandboxes.guest(id);
      for (const [name, value] of Object.entries(body.attributes)) {
        if (value === null) await guest.removeXattr(body.path, name, asUser(body));
        else await guest.setXattr(body.path, { name, value: Buffer.from(value, "base64") }, asUser(body));
      }
      return reply.code(204).send(null);
    },
  );
}
