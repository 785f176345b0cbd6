import { z } from "zod";
import { instant, objectIdSchema, portSchema } from "./common.ts";

/** Who may see a preview: its owner's session, whoever holds a link, or anyone. */
export const visibilitySchema = z.enum(["private", "link", "public"]);
export type Visibility = z.infer<typeof visibilitySchema>;

/** One exposed port of a sandbox at a URL. */
export const previewSchema = z
  .object({
    port: portSchema,
    url: z.string(),
    visibility: visibilitySchema,
    /** Whether the app sees `localhost:{port}` as its host, for dev servers that check it */
    rewriteHost: z.boolean(),
  })
  .meta({ id: "Preview" });
export type Preview = z.infer<typeof previewSchema>;
/** `GET …/previews` */
export const previewListSchema = z
  .object({ items: z.array(previewSchema) })
  .meta({ id: "PreviewList" });

/** `PUT /v1/sandboxes/{id}/previews/{port}` */
export const putPreviewRequestSchema = z
  .strictObject({
    visibility: visibilitySchema.optional(),
    rewriteHost: z.boolean().optional(),
  })
  .meta({ id: "PutPreviewRequest" });
export type PutPreviewRequest = z.infer<typeof putPreviewRequestSchema>;

/** `POST …/previews/{port}/open`: a URL whose fragment holds a code that works once, for 60 s. */
export const openedPreviewSchema = z
  .object({ url: z.string(), expiresAt: instant })
  .meta({ id: "OpenedPreview" });
export type OpenedPreview = z.infer<typeof openedPreviewSchema>;

const LINK_LIFE_MS_MAX = 90 * 24 * 3600 * 1000;

/** `POST …/previews/{port}/links` */
export const createLinkRequestSchema = z
  .strictObject({
    /** Milliseconds that the link works; left out, the daemon's `previews.linkLifeMs` */
    expiresInMs: z.number().int().min(1000).max(LINK_LIFE_MS_MAX).optional(),
  })
  .meta({ id: "CreateLinkRequest" });
export type CreateLinkRequest = z.input<typeof createLinkRequestSchema>;

/** A link; its URL is shown once, when it is made. */
export const linkSchema = z
  .object({
    id: objectIdSchema,
    port: portSchema,
    createdAt: instant,
    expiresAt: instant,
    url: z.string().optional(),
  })
  .meta({ id: "Link" });
export type Link = z.infer<typeof linkSchema>;
/** `GET …/previews/{port}/links`; URLs are not shown again. */
export const linkListSchema = z.object({ items: z.array(linkSchema) }).meta({ id: "LinkList" });
