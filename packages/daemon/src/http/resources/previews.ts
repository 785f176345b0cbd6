import {
  createLinkRequestSchema,
  linkListSchema,
  linkSchema,
  openedPreviewSchema,
  previewListSchema,
  previewSchema,
  putPreviewRequestSchema,
} from "@belljar/protocol";
import { BelljarError } from "@belljar/protocol";
import { z } from "zod";
import type { SandboxId } from "../../kernel/index.ts";
import { linkParams, portParams, sandboxParams, toInstant } from "../request.ts";
import type { Api, RouteContext } from "../services.ts";

const TAGS = ["previews"];

/** Previews: ports at URLs, who may see them, and the links that let people in. */
export function registerPreviews(api: Api, context: RouteContext): void {
  registerPorts(api, context);
  registerLinks(api, context);
}

function registerPorts(api: Api, { sandboxes, previewAccess }: RouteContext): void {
  api.get(
    "/v1/sandboxes/:id/previews",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "listPreviews",
        summary: "List a sandbox's previews",
        params: sandboxParams,
        response: { 200: previewListSchema },
      },
    },
    async ({ params }) => ({ items: await sandboxes.listPreviews(params.id) }),
  );
  api.put(
    "/v1/sandboxes/:id/previews/:port",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "putPreview",
        summary: "Open a port as a preview, or change one",
        params: portParams,
        body: putPreviewRequestSchema,
        response: { 200: previewSchema },
      },
    },
    ({ params, body }) => sandboxes.putPreview(params.id, params.port, body),
  );
  api.delete(
    "/v1/sandboxes/:id/previews/:port",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "removePreview",
        summary: "Close a preview; its links and sessions end",
        params: portParams,
        response: { 204: z.null() },
      },
    },
    async ({ params }, reply) => {
      await sandboxes.removePreview(params.id, params.port);
      return reply.code(204).send(null);
    },
  );
  api.post(
    "/v1/sandboxes/:id/previews/:port/open",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "openPreview",
        summary: "Get a URL that signs one browser in, once, within a minute",
        params: portParams,
        response: { 201: openedPreviewSchema },
      },
    },
    async ({ params: { id, port } }, reply) => {
      await mustBePreview(sandboxes, id, port);
      const { url, expiresAtMs } = await previewAccess.createCode(id, port);
      return reply.code(201).send({ url, expiresAt: toInstant(expiresAtMs) });
    },
  );
}

function registerLinks(api: Api, { sandboxes, previewAccess }: RouteContext): void {
  api.post(
    "/v1/sandboxes/:id/previews/:port/links",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "createLink",
        summary: "Make a link for whoever holds it; its URL is in this answer alone",
        params: portParams,
        body: createLinkRequestSchema,
        response: { 201: linkSchema },
      },
    },
    async ({ params: { id, port }, body }, reply) => {
      await mustBePreview(sandboxes, id, port);
      const link = await previewAccess.createLink(id, port, body.expiresInMs);
      return reply.code(201).send({ ...toLink(link, port), url: link.url });
    },
  );
  api.get(
    "/v1/sandboxes/:id/previews/:port/links",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "listLinks",
        summary: "List the links of a preview that work",
        params: portParams,
        response: { 200: linkListSchema },
      },
    },
    async ({ params: { id, port } }) => {
      await mustBePreview(sandboxes, id, port);
      const links = await previewAccess.links(id, port);
      return { items: links.map((link) => toLink(link, port)) };
    },
  );
  api.delete(
    "/v1/sandboxes/:id/previews/:port/links/:linkId",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "revokeLink",
        summary: "End a link and everything that was opened with it",
        params: linkParams,
        response: { 204: z.null() },
      },
    },
    async ({ params: { id, port, linkId } }, reply) => {
      await mustBePreview(sandboxes, id, port);
      await previewAccess.revokeLink(id, port, linkId);
      return reply.code(204).send(null);
    },
  );
}

function toLink(link: { id: string; createdAtMs: number; expiresAtMs: number }, port: number) {
  return {
    id: link.id,
    port,
    createdAt: toInstant(link.createdAtMs),
    expiresAt: toInstant(link.expiresAtMs),
  };
}

async function mustBePreview(
  sandboxes: RouteContext["sandboxes"],
  id: SandboxId,
  port: number,
): Promise<void> {
  const previews = await sandboxes.listPreviews(id);
  if (previews.some((preview) => preview.port === port)) return;
  throw new BelljarError("PREVIEW_NOT_FOUND", `port ${port} of sandbox ${id} is no preview`, {
    port,
  });
}
