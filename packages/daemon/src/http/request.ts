import {
  objectIdSchema,
  pageQuerySchema,
  portTextSchema,
  sandboxIdSchema,
} from "@belljar/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { invariant, parseSandboxId } from "../kernel/index.ts";
import type { SandboxId } from "../kernel/index.ts";

const brandedSandboxId = sandboxIdSchema.transform((text): SandboxId => {
  const id = parseSandboxId(text);
  invariant(id !== undefined, "the wire's and the kernel's idea of a sandbox id differ");
  return id;
});

/** Path parameters. */
export const sandboxParams = z.object({ id: brandedSandboxId });
export const portParams = sandboxParams.extend({ port: portTextSchema });
export const linkParams = portParams.extend({ linkId: objectIdSchema });
export const taskParams = z.object({ taskId: objectIdSchema });
export const tokenParams = z.object({ tokenId: objectIdSchema });
export const processParams = sandboxParams.extend({
  pid: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, "must be a process id or a tag"),
});

/** Query of lists; unknown parameters are refused, as a misspelt filter would list too much. */
export const pageQuery = pageQuerySchema.strict();

/** Process ids are digits; anything else is the tag that a process was started with. */
export function processTarget(pid: string): { pid: number } | { tag: string } {
  return /^[1-9][0-9]{0,9}$/.test(pid) ? { pid: Number(pid) } : { tag: pid };
}

/** Who calls, for what belongs to a caller. */
export function callerOf(request: FastifyRequest): { owner: string; idempotencyKey?: string } {
  invariant(request.identity !== null, "a route with a caller has no policy");
  const key = request.headers["idempotency-key"];
  const owner = request.identity.tokenId;
  return typeof key === "string" ? { owner, idempotencyKey: key } : { owner };
}

/** A signal that fires when the client goes away before it has its answer. */
export function clientGone(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.once("close", () => {
    if (!reply.raw.writableFinished) controller.abort();
  });
  return controller.signal;
}

/** `instant` of milliseconds. */
export function toInstant(ms: number): string {
  return new Date(ms).toISOString();
}
